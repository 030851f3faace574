"""Addresses of the demo: none yet."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []

"""What the pages' examples sell, write and read."""

from django.db import models


class Camera(models.Model):
    number = models.IntegerField(unique=True)
    card = models.CharField(max_length=40, default="good")

    def __str__(self):
        return f"camera {self.number}"


class Product(models.Model):
    shop = models.IntegerField()
    name = models.CharField(max_length=40)
    indexed = models.BooleanField(default=False)

    def __str__(self):
        return self.name

    def reindex(self):
        self.indexed = True
        self.save(update_fields=["indexed"])


class Notification(models.Model):
    recipient = models.CharField(max_length=40, default="")
    text = models.TextField()
    key = models.CharField(max_length=80, unique=True, null=True)

    def __str__(self):
        return self.text

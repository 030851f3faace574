from django.apps import AppConfig


class ShopConfig(AppConfig):
    name = "demo_project.shop"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from demo_project.shop.demo import orphans  # noqa: F401  (connects itself)

from django.db import models


class Note(models.Model):
    """What a handler has written, in the schema that it ran in."""

    text = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.text

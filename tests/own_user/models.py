"""Users of its own."""

import uuid

from django.contrib.auth.models import AbstractBaseUser, PermissionsMixin
from django.db import models


class User(AbstractBaseUser, PermissionsMixin):
    """Logs in with a number."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    phone = models.BigIntegerField(unique=True)
    is_staff = models.BooleanField(default=True)
    is_active = models.BooleanField(default=True)

    USERNAME_FIELD = "phone"

    class Meta:
        app_label = "own_user"

    def __str__(self) -> str:
        return f"{self.phone}"

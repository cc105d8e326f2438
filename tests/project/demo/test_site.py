"""The admin that the demo opens."""

import socket

import pytest
from django.contrib.auth import get_user_model

from project.demo.site import HOST, add_login, free_port


def test_the_wanted_port_is_taken_if_it_is_free():
    """Who asks for a port gets it."""
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]

    assert free_port(port) == port


def test_another_port_is_taken_if_the_wanted_one_is_in_use():
    """A second demo does not fail on the port of the first."""
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        assert free_port(port) != port


@pytest.mark.django_db
def test_the_login_is_made_once_in_debug_mode(settings, client):
    """Whoever runs the demo can log in to the admin, also the second time."""
    settings.DEBUG = True
    assert add_login()
    assert add_login()

    assert client.login(username="demo", password="demo")
    assert client.get("/admin/shop/order/").status_code == 200


@pytest.mark.django_db
def test_there_is_no_login_with_a_known_password_outside_debug_mode(settings):
    """A deployed project never gets a superuser that everybody knows."""
    settings.DEBUG = False

    assert not add_login()
    assert not get_user_model().objects.exists()


@pytest.mark.django_db
def test_a_demo_user_with_another_password_is_left_alone(settings):
    """The invitation names no password that would not work."""
    settings.DEBUG = True
    get_user_model().objects.create_superuser(username="demo", password="a better one")

    assert not add_login()

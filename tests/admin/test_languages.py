"""Every page in each language that there is a catalogue of."""

import re
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.test import Client, override_settings
from django.utils import translation

from scripts import translations
from tests.inbox.support import Handling
from tests.kit import every_page
from tests.kit.admin_pages import shown

pytestmark = [pytest.mark.django_db(transaction=True)]

LANGUAGES = {"de": "de", "zh-hans": "zh_Hans"}
"""As browsers ask for them, and as their directories are called."""
HEADINGS = {
    "de": {
        "overview": ("Übersicht", "Befunde", "Zu veröffentlichen", "Handler-Gruppen"),
        "failures": ("Fehler", "Was scheitert", "Dead Letters", "Geparkte Nachrichten"),
        "flow": ("Ablauf", "Was wohin fließt"),
        "conversation": ("Konversation", "Welche Nachricht welche auslöste", "9 Nachrichten"),
        "traffic": ("Betrieb", "Spuren", "Verbindungen zur Datenbank"),
        "storage": ("Speicher", "Aufbewahrung"),
        "doings": ("Eingriffe", "Was Menschen getan haben", "Verworfen."),
        "list of receipt": ("Belege", "gescheitert", "Ausgewählte Belege verwerfen"),
        "message that failed": ("Ihr Weg", "erzeugt", "1 Versuch", "Erneut veröffentlichen"),
        "to discard a receipt": ("1 Beleg verwerfen?", "Ja, verwerfen", "Nein, zurück"),
        "to hand to a group": ("1 Nachricht an Gruppe g geben?", "Ja, an diese Gruppe geben"),
        "mistake": ("Den Zusatz „stat:“ gibt es nicht. Ist „state:“ gemeint?",),
    },
    "zh-hans": {
        "overview": ("概览", "诊断结果", "待发布", "处理器组"),
        "failures": ("失败", "失败内容", "死信", "已搁置的消息"),
        "flow": ("消息流", "消息流向"),
        "conversation": ("会话", "哪条消息引发了哪条", "9 条消息"),
        "traffic": ("运行状况", "通道", "数据库连接"),
        "storage": ("存储", "保留期"),
        "doings": ("操作记录", "人工操作", "已丢弃。"),
        "list of receipt": ("回执", "最终失败", "丢弃所选的回执"),
        "message that failed": ("消息经过", "已发出", "1 次尝试", "重新发布"),
        "to discard a receipt": ("丢弃 1 条回执？", "是，丢弃", "否，返回"),
        "to hand to a group": ("将 1 条消息交给组 g？", "是，交给此组"),
        "mistake": ("没有限定词“stat:”。 是否指“state:”？",),
    },
}
SURE = 12
"""Characters from which on a text is no word that another language has as well."""


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    with override_settings(**every_page.SETTINGS):
        yield


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_page(language: str, handling: Handling, client: Client) -> None:
    """Is there, says the words that it should, and none of those in their place."""
    User.objects.create_superuser("root")
    every_page.fill(handling)
    wrong: dict[str, list[str]] = {}
    seen = set()
    original = _originals(LANGUAGES[language])
    for name, address in every_page.addresses(client):
        answer = client.get(address, headers={"accept-language": language})
        assert answer.status_code == 200, (name, address)
        text = shown(answer.content.decode())
        words = HEADINGS[language].get(name, ())
        seen |= {name} if words else set()
        found = [f"no {each}" for each in words if each not in text]
        found += [
            each for each in original if each in text and re.search(rf"\b{re.escape(each)}\b", text)
        ]
        if found:
            wrong[name] = found

    assert wrong == {}
    assert seen == set(HEADINGS[language])


def _originals(locale: str) -> list[str]:
    """Return the texts that are sure to be another one in a language."""
    found = {
        str(each.id): each.string
        for package in translations.PACKAGES
        for each in translations.read(package, locale)
        if each.id and not each.pluralizable and not each.python_format
    }
    return [text for text, other in found.items() if len(text) >= SURE and text not in other]


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("de", ["0 Nachrichten", "1 Nachricht", "2 Nachrichten"]),
        ("zh-hans", ["0 条消息", "1 条消息", "2 条消息"]),
    ],
)
def test_plurals(language: str, said: list[str]) -> None:
    """By the rule of the language: Chinese has one form."""
    with translation.override(language):
        text = [
            translation.ngettext("%(count)s message", "%(count)s messages", count)
            % {"count": count}
            for count in range(3)
        ]

    assert text == said

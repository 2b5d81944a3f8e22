"""The chat page in a real Chromium: a question, a streamed answer, and what became of each chunk."""

import shutil

import pytest

from nonet.ragcache.models.toy import toy_model
from nonet.ragcache.scheduling.engine import Engine
from nonet.ragcache.scheduling.settings import EngineConfig
from nonet.ragcache.serving.app import ServerConfig
from nonet.ragcache.serving.server import Address, RagServer
from nonet.ragcache.store.chunk_store import ChunkStore
from tests.conftest import needs

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def page():
    needs(CHROMIUM is not None, "no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page()
        yield opened
        browser.close()


@pytest.fixture
def server():
    engine = Engine(toy_model(), ChunkStore.from_spec("ram:50MB"), EngineConfig(max_model_len=1024))
    running = RagServer(engine, ServerConfig("toy", default_max_tokens=6), Address(port=0)).start()
    yield running
    running.stop(0.5)


def ask(page, chunks, question):
    page.fill("#chunks", chunks)
    page.fill("#question", question)
    page.click("#send")
    page.wait_for_selector(f"section.turn:first-child:has-text('{question}') .bar")


def test_chunks_are_computed_first_and_reused_then(page, server):
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(server.address)
    assert page.title() == "nonet ragcache"
    ask(page, "the first chunk of text\n---\nand the second chunk", "why so?")
    first = page.locator("section.turn").first
    assert first.locator("details.chunk").count() == 2
    assert {box.get_attribute("data-decision") for box in first.locator("details.chunk").all()} == {"computed"}
    ask(page, "and the second chunk\n---\nthe first chunk of text", "what now?")
    again = page.locator("section.turn").first
    decisions = [box.get_attribute("data-decision") for box in again.locator("details.chunk").all()]
    assert set(decisions) & {"reused", "repaired"}
    box = again.locator("details.chunk:not([data-decision=computed])").first
    box.locator("summary").click()
    assert "cfo" in box.locator("p").last.inner_text()
    name = box.locator("summary").inner_text().partition(":")[0]
    texts = {"chunk-0": "and the second chunk", "chunk-1": "the first chunk of text"}
    assert box.locator(".text").inner_text() == texts[name]
    widths = [part.evaluate("element => element.style.width") for part in again.locator(".bar i").all()]
    assert sum(float(width.removesuffix("%")) for width in widths) == pytest.approx(100, abs=0.5)
    assert errors == []


def test_follow_up_questions_bring_the_conversation_until_a_new_one_begins(page, server):
    sent = []
    page.on("request", lambda request: request.method == "POST" and sent.append(request.post_data_json["messages"]))
    page.goto(server.address)
    assert page.locator("#new").is_disabled()
    ask(page, "a chunk", "who?")
    answer = page.locator("section.turn .answer").first.text_content()
    assert answer
    ask(page, "another chunk", "and where?")
    assert [one["role"] for one in sent[1]] == ["system", "user", "assistant", "user"]
    assert [one["content"] for one in sent[1][1:]] == ["who?", answer, "and where?"]
    page.fill("#chunks", "x " * 3000)
    page.fill("#question", "too long?")
    page.click("#send")
    page.wait_for_selector("section.turn:first-child .error")
    ask(page, "a chunk", "then?")  # a question that had no answer is not repeated
    assert [one["content"] for one in sent[-1][1::2]] == ["who?", "and where?", "then?"]
    page.click("#new")
    assert page.locator("section.turn").count() == 0
    ask(page, "a chunk", "who else?")
    assert [one["role"] for one in sent[-1]] == ["system", "user"]


def test_a_conversation_that_is_too_long_loses_its_oldest_questions(page, server):
    sent = []
    page.on("request", lambda request: request.method == "POST" and sent.append(request.post_data_json["messages"]))
    page.goto(server.address)
    for number in range(4):
        ask(page, "a chunk", f"number {number} " + "and so on " * 30)
    assert page.locator("section.turn .error").count() == 0
    told = [turn.locator(".forgot").count() for turn in page.locator("section.turn").all()]
    assert told[-1] == 0 and told[0] == 1
    kept = [one["content"].split(" and")[0] for one in sent[-1] if one["role"] == "user"]
    assert kept == [f"number {number}" for number in range(4 - len(kept), 4)] and 1 < len(kept) < 4


def test_the_servers_mode_is_used_until_another_is_chosen(page):
    engine = Engine(toy_model(), ChunkStore.from_spec("ram:50MB"), EngineConfig(max_model_len=1024, mode="full"))
    server = RagServer(engine, ServerConfig("toy", default_max_tokens=6), Address(port=0)).start()
    modes = []
    engine.on_report(lambda report, _: modes.append(report.mode))
    try:
        page.goto(server.address)
        ask(page, "a chunk", "with what?")
        page.select_option("#mode", "reuse")
        ask(page, "a chunk", "and now?")
    finally:
        server.stop(0.5)
    assert modes == ["full", "reuse"]


def test_an_error_is_shown_and_markup_in_chunks_stays_text(page, server):
    page.goto(server.address)
    ask(page, "<img src=x onerror=\"document.title='broken'\">", "<b>bold?</b>".replace("<", "").replace(">", ""))
    assert page.title() == "nonet ragcache"
    page.fill("#chunks", "x " * 3000)
    page.fill("#question", "too long?")
    page.click("#send")
    page.wait_for_selector("section.turn:first-child .error")
    assert "maximum context length" in page.locator("section.turn .error").first.inner_text()

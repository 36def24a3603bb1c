"""Who is let in, on a real server: this machine alone, no page of another site, and who has signed in."""

from base64 import b64encode
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import psutil
import pytest

from tests.browser.conftest import Server, settle, text_of
from tests.browser.provider import Provider


@pytest.mark.promise("The server answers only this machine, and no page of another site.")
def test_the_server_listens_on_this_machine_alone(empty_server):
    listening = [
        connection.laddr.ip
        for connection in psutil.Process(empty_server.process.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert set(listening) <= {"127.0.0.1", "::1"}


def knock(server, origin):
    """Status of opening the app's socket as a page of `origin` would; 101 means that it is let in."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    headers = {
        "Origin": origin,
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": b64encode(bytes(16)).decode(),
        "Sec-WebSocket-Protocol": "streamlit",
    }
    with closing(connection):
        connection.request("GET", "/_stcore/stream", headers=headers)
        return connection.getresponse().status


@pytest.mark.promise("The server answers only this machine, and no page of another site.")
def test_no_page_of_another_site_can_use_the_app(empty_server):
    assert knock(empty_server, empty_server.url) == 101
    assert knock(empty_server, "http://evil.example") == 403


def test_behind_a_proxy_the_address_needs_one_setting(tmp_path):
    server = Server(tmp_path / "home")
    server.settings |= {"STREAMLIT_SERVER_CORS_ALLOWED_ORIGINS": "https://mer.school.in"}
    try:
        server.start()
        assert knock(server, "https://mer.school.in") == 101
        assert knock(server, "https://mer.school.in.evil.example") == 403
    finally:
        server.kill()


def asked(server, method, place):
    """Status and text of an answer."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    with closing(connection):
        connection.request(method, place, body="{}" if method == "POST" else None)
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")


def test_the_app_cannot_be_driven_by_programs(empty_server):
    status, _ = asked(empty_server, "POST", "/_stcore/agent/interact")
    assert status == 403


@pytest.mark.parametrize(
    "place",
    [
        "/requirements.txt",
        "/app/static/requirements.txt",
        "/app/static/../requirements.txt",
        "/app/static/%2e%2e/requirements.txt",
        "/../../../../../../etc/hostname",
    ],
)
def test_no_file_of_the_project_is_served(empty_server, place):
    _, text = asked(empty_server, "GET", place)
    assert "torch==" not in text
    assert Path("/etc/hostname").read_text().strip() not in text


@pytest.fixture
def provider():
    provider = Provider(
        sub="1", name="Asha Rao", email="asha@school.in", email_verified=True, preferred_username="asha"
    )
    yield provider
    provider.close()


@pytest.fixture
def guarded_server(tmp_path, provider, monkeypatch):
    """A server that asks for sign-in and knows one editor's domain."""
    monkeypatch.setenv("MER_EDITORS", "@school.in")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    server = Server(tmp_path / "home")
    secrets = tmp_path / "secrets.toml"
    secrets.write_text(provider.secrets(server.url))
    server.settings |= {"STREAMLIT_SECRETS_FILES": str(secrets)}
    yield server.start()
    server.kill()


@pytest.mark.promise("Sign-in by OpenID Connect works from the button to a change.")
def test_changes_need_a_signed_in_visitor(guarded_server, page):
    page.goto(f"{guarded_server.url}/data")
    settle(page)
    assert "Sign in to change anything here" in text_of(page)
    assert "Make the demo corpus" not in text_of(page)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("Asha Rao").wait_for()
    page.goto(f"{guarded_server.url}/data")
    settle(page)
    assert "Make the demo corpus" in text_of(page)
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="Sign in").wait_for()


def test_a_visitor_who_is_not_listed_can_only_look(guarded_server, provider, page):
    provider.person |= {"email": "asha@elsewhere.org"}
    page.goto(f"{guarded_server.url}/data")
    settle(page)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("Asha Rao").wait_for()
    page.goto(f"{guarded_server.url}/data")
    settle(page)
    assert "ask the operator to add you as an editor" in text_of(page)
    assert "Make the demo corpus" not in text_of(page)

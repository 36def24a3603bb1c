"""A server that keeps runs: its clock, and what is said when it does not answer."""

import threading
import time
from email.utils import formatdate
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import CUSTOMER_UNAUTHORIZED, PERMISSION_DENIED, UNAUTHENTICATED
from requests import HTTPError, Response

from mer.cli import main
from mer.runs.connection import guarded
from mer.runs.server import Server, is_away, shown
from mer.utils.errors import StorageError


@pytest.fixture
def stand_in(monkeypatch):
    """A server that only answers: `ahead` s before this machine's clock, with `status`."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    told = SimpleNamespace(ahead=0.0, status=200, asked=0)

    class Service(BaseHTTPRequestHandler):
        def do_GET(self):
            told.asked += 1
            self.send_response_only(told.status)
            self.send_header("Date", formatdate(time.time() + told.ahead, usegmt=True))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=partial(server.serve_forever, 0.05), daemon=True).start()
    told.uri = f"http://127.0.0.1:{server.server_port}"
    yield told
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("ahead", [0.0, 7200.0, -86_400.0])
@pytest.mark.promise(
    "Times are the server's, whatever the clock of the machine says.", measured="clocks off by 2 h and a day"
)
def test_the_time_is_the_servers_whatever_this_machines_clock_says(stand_in, ahead):
    stand_in.ahead = ahead
    assert Server(stand_in.uri).now() == pytest.approx(time.time() + ahead, abs=1.5)


def test_the_server_is_asked_for_its_time_once_in_a_while(stand_in):
    server = Server(stand_in.uri)
    times = [server.now() for _ in range(5)]
    assert stand_in.asked == 1
    assert times == sorted(times)


def test_without_an_answer_the_last_difference_is_kept(stand_in, monkeypatch):
    stand_in.ahead = 3600.0
    server = Server(stand_in.uri)
    server.now()
    server.uri, server.asked = "http://127.0.0.1:9", float("-inf")
    assert server.now() == pytest.approx(time.time() + 3600, abs=1.5)


def test_a_server_that_only_fails_cannot_be_used(stand_in):
    stand_in.status = 503
    with pytest.raises(StorageError, match="cannot be used \\(it answers with status 503\\); start it"):
        Server(stand_in.uri).require()


def test_a_server_that_is_not_there_is_said_in_one_line_and_soon(own_home, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://asha:secret@127.0.0.1:9")
    began = time.monotonic()
    assert main(["runs", "list"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: the MLflow server at http://127.0.0.1:9 cannot be used (no answer)")
    assert len(err.splitlines()) == 1
    assert time.monotonic() - began < 15


def test_no_message_shows_a_password():
    assert shown("https://asha:secret@lab.in:5000/runs") == "https://lab.in:5000/runs"


def failing(error, times):
    """A store whose first calls fail so; `calls` counts them."""

    class Store:
        patience, calls = 60.0, 0

        @guarded
        def ask(self):
            self.calls += 1
            if self.calls <= times:
                raise error
            return "answer"

    return Store()


def unanswered(cause):
    """The error that MLflow raises for one of requests."""
    try:
        try:
            raise cause
        except Exception as error:  # noqa: BLE001 - as MLflow does
            raise MlflowException(f"API request failed with exception {error}")  # noqa: B904 - as MLflow does
    except MlflowException as error:
        return error


GONE = unanswered(requests.ConnectionError("refused"))


def test_who_works_on_a_run_waits_for_a_server_that_is_away(monkeypatch):
    monkeypatch.setattr("mer.runs.connection.PAUSE", 0.0)
    store = failing(GONE, 3)
    assert store.ask() == "answer"
    assert store.calls == 4


def test_who_only_looks_does_not_wait(monkeypatch):
    store = failing(GONE, 3)
    store.patience = 0.0
    with pytest.raises(StorageError, match="does not answer; start it, or check MLFLOW_TRACKING_URI"):
        store.ask()
    assert store.calls == 1


def test_once_patience_ran_out_nothing_waits_again(monkeypatch):
    monkeypatch.setattr("mer.runs.connection.PAUSE", 0.01)
    store = failing(GONE, 10**6)
    store.patience = 0.05
    with pytest.raises(StorageError, match="does not answer"):
        store.ask()
    calls = store.calls
    with pytest.raises(StorageError, match="does not answer"):
        store.ask()
    assert store.calls == calls + 1


def test_what_no_waiting_mends_is_said_at_once():
    store = failing(MlflowException("no such run"), 1)
    with pytest.raises(StorageError, match="the run store failed \\(no such run\\)"):
        store.ask()


@pytest.mark.parametrize("code", [UNAUTHENTICATED, CUSTOMER_UNAUTHORIZED, PERMISSION_DENIED])
def test_a_server_that_wants_a_name_is_said_so(code):
    store = failing(MlflowException("it says no", error_code=code), 1)
    with pytest.raises(StorageError, match="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"):
        store.ask()


@pytest.mark.parametrize(("status", "away"), [(500, True), (503, True), (404, False), (413, False)])
def test_an_upload_is_tried_again_only_if_the_server_is_at_fault(status, away):
    answer = Response()
    answer.status_code = status
    assert is_away(HTTPError(response=answer)) is away


@pytest.mark.parametrize(
    ("cause", "away"),
    [
        (requests.ConnectionError("refused"), True), (requests.Timeout(), True),
        (requests.exceptions.RetryError("too many 503"), True),
        (requests.exceptions.InvalidURL("http://"), False),
        (OSError("no such certificate"), False),
    ],
)  # fmt: skip
def test_the_error_behind_mlflows_tells_whether_the_server_answered(cause, away):
    assert is_away(unanswered(cause)) is away


def test_the_text_of_an_error_does_not_tell_that_the_server_is_away():
    assert not is_away(MlflowException("API request to http://lab.in/api failed with exception refused"))


def test_mlflow_s_own_request_to_a_closed_port_counts_as_unanswered(monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(MlflowException) as raised:
        MlflowClient("http://127.0.0.1:9").get_run("0" * 32)
    assert is_away(raised.value)


def test_an_error_without_a_text_is_named_by_its_class():
    with pytest.raises(StorageError, match=r"the run store failed \(MlflowException\)"):
        failing(MlflowException(""), 1).ask()

"""An MLflow server that keeps the runs: whether it answers, its time, and deleting artifacts on it."""

import time
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from mer.utils.errors import StorageError

__all__ = ["Server", "delete_artifacts", "is_away", "is_server", "shown", "status_of"]

TIMEOUT = 5.0  # s that a command or a page waits for an answer
FRESH = 600.0  # s after which the clocks are compared again


def is_server(uri: str | None) -> bool:
    """True for the address of a server, as MLFLOW_TRACKING_URI may be."""
    return urlsplit(uri or "").scheme in ("http", "https")


def shown(uri: str) -> str:
    """The address without the user and password that may be in it."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


class Server:
    """One server. Machines that share it all use its clock, since their own may differ."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.ahead, self.compared_at = 0.0, float("-inf")

    def now(self) -> float:
        """The server's time, in s since 1970, accurate to about 1 s.

        It is this machine's time plus the difference to the date of an answer. The difference is measured
        again after ten minutes; if the server does not answer then, the last one is kept.
        """
        if time.monotonic() - self.compared_at > FRESH:
            try:
                self.require()
            except StorageError:
                self.compared_at = time.monotonic()
        return time.time() + self.ahead

    def require(self) -> None:
        """Raise StorageError, within seconds, unless the server answers."""
        before = time.time()
        answer = self._request_health()
        if answer.status_code >= 500:
            raise self._unusable(f"it answers with status {answer.status_code}")
        self.compared_at = time.monotonic()
        if date := answer.headers.get("Date"):  # in whole seconds, cut off
            self.ahead = parsedate_to_datetime(date).timestamp() + 0.5 - (before + time.time()) / 2

    def _request_health(self) -> Any:
        from mlflow.exceptions import MlflowException
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request

        credentials = get_default_host_creds(self.uri)
        try:
            return http_request(
                credentials, "/health", "GET", max_retries=0, timeout=TIMEOUT, raise_on_status=False
            )
        except MlflowException as error:
            raise self._unusable("no answer") from error

    def _unusable(self, reason: str) -> StorageError:
        return StorageError(
            f"the MLflow server at {shown(self.uri)} cannot be used ({reason}); start it, or check "
            "MLFLOW_TRACKING_URI"
        )


def is_away(error: Exception) -> bool:
    """True if a request failed because the server, or the database behind it, did not answer.

    MLflow passes some errors of requests on and raises an MlflowException for others, with or without
    `from`. An invalid address (a ValueError) is not an absent server.
    """
    from requests import RequestException

    found = next((one for one in _chain(error) if isinstance(one, RequestException)), None)
    if found is None or isinstance(found, ValueError):
        return False
    return found.response is None or found.response.status_code >= 500


def _chain(error: Exception) -> tuple[BaseException | None, ...]:
    """An error and its cause, if it has one."""
    return error, error.__cause__ or error.__context__


def status_of(error: Exception) -> int | None:
    """HTTP status of a request that the server refused; None if the error has none."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return error.get_http_status_code()
    return getattr(getattr(error, "response", None), "status_code", None)


def delete_artifacts(root: str, name: str) -> None:
    """Remove a file or folder of a run's artifacts (its `artifact_uri`); nothing if there is none."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    get_artifact_repository(f"{root.rstrip('/')}/{name}").delete_artifacts()

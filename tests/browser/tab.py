"""A browser's tab without the browser: a session of the dashboard in Streamlit's own protocol.

What a tab does is done: the page and its scripts by HTTP, a websocket with the messages of the installed
Streamlit, uploads with their token, media that a page shows, the look every second that a page asks for.
Nothing is drawn, so that twenty of them leave two cores to the server. websockets and requests come with
Streamlit.
"""

import asyncio
import re
import time
from collections import defaultdict
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from streamlit.proto.Alert_pb2 import Alert
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import connect

PATIENCE = 120.0  # s for an answer; then it counts as none
XSRF = "_streamlit_xsrf"


class TroubleError(AssertionError):
    """What a visitor should never meet."""


class Tab:
    """One visitor. `took` has the seconds of each kind of act, `errors` what no page should show."""

    def __init__(self, url: str) -> None:
        self.url, self.http, self.socket = url, requests.Session(), None
        self.http.trust_env = False
        self.http.mount(
            "http://", HTTPAdapter(max_retries=1)
        )  # kept connections are closed; browsers ask again
        self.took: dict[str, list[float]] = defaultdict(list)
        self.errors: list[str] = []
        self.page, self.query, self.kept = "", "", set()
        self.fresh()

    def fresh(self) -> None:
        """Nothing on the screen yet."""
        self.elements, self.media, self.polls, self.pages, self.session = {}, set(), {}, {}, ""

    async def fetch(self, path: str, *, kind: str) -> requests.Response:
        """A file by HTTP; anything but a success is trouble."""
        began = time.monotonic()
        answer = await asyncio.to_thread(self.http.get, self.url + path, timeout=PATIENCE)
        self.took[kind].append(time.monotonic() - began)
        if not answer.ok:
            raise TroubleError(f"{path}: HTTP {answer.status_code}")
        return answer

    async def open(self, page: str, query: str = "") -> None:
        """Load a page as by its address: in a new session, as a reload does."""
        await self.close()
        html = (await self.fetch(f"/{page}", kind="file")).text
        scripts = set(re.findall(r'(?:src|href)="\.?(/static/[^"]+)"', html))
        for path in scripts - self.kept:  # a browser fetches them once
            await self.fetch(path, kind="file")
        self.kept |= scripts
        await self.fetch("/_stcore/health", kind="file")
        await self.fetch("/_stcore/host-config", kind="file")
        token = self.http.cookies[XSRF]
        self.socket = await connect(
            f"ws://{urlsplit(self.url).netloc}/_stcore/stream",
            subprotocols=["streamlit", token],
            origin=self.url,
            additional_headers={"Cookie": f"{XSRF}={token}"},
            max_size=None,
            proxy=None,
            ping_interval=None,
            open_timeout=PATIENCE,
        )
        self.page, self.query = page, query
        await self.run(kind=f"page {page or 'home'}")

    async def go(self, page: str, query: str = "") -> None:
        """Take another page from the menu, in the same session."""
        self.page, self.query = page, query
        await self.run(kind=f"page {page or 'home'}")

    async def close(self) -> None:
        """As a tab is closed."""
        if self.socket:
            await self.socket.close()
        self.http.close()  # it opens again when it is needed
        self.socket = None
        self.fresh()

    async def run(self, *widgets: WidgetState, kind: str, fragment: str = "") -> None:
        """Have the page run with what its widgets hold, or one of its fragments; wait until it has."""
        message = BackMsg()
        state = message.rerun_script
        state.query_string = self.query
        if self.page in self.pages:
            state.page_script_hash = self.pages[self.page]
        else:
            state.page_name = self.page
        state.fragment_id, state.is_auto_rerun = fragment, bool(fragment)
        state.context_info.url = f"{self.url}/{self.page}"
        state.widget_states.widgets.extend(widgets)
        began = time.monotonic()
        await self.socket.send(message.SerializeToString())
        await self.until("script_finished")
        self.took[kind].append(time.monotonic() - began)
        while self.media:
            await self.fetch(self.media.pop(), kind="file")

    async def until(self, wanted: str) -> ForwardMsg:
        """Take messages up to the last of a run, or to the first of another kind."""
        async with asyncio.timeout(PATIENCE):
            while True:
                message = ForwardMsg.FromString(await self.socket.recv(decode=False))
                kind = message.WhichOneof("type")
                self.take(message, kind)
                early = message.script_finished == ForwardMsg.FINISHED_EARLY_FOR_RERUN
                if kind == wanted and not (kind == "script_finished" and early):
                    return message

    def take(self, message: ForwardMsg, kind: str) -> None:
        """What a browser would show or remember of a message."""
        if kind == "new_session":
            if not message.metadata.run.fragment_ids:
                self.elements, self.media, self.polls = {}, set(), {}
            self.session = message.new_session.initialize.session_id or self.session
        elif kind == "navigation":
            self.pages = {page.url_pathname: page.page_script_hash for page in message.navigation.app_pages}
        elif kind == "page_info_changed":
            self.query = message.page_info_changed.query_string
        elif kind == "auto_rerun":
            self.polls[message.auto_rerun.fragment_id] = message.auto_rerun.interval
        elif kind == "stop_auto_rerun":
            self.polls.clear()
        elif kind == "delta" and message.delta.WhichOneof("type") == "new_element":
            self.show(tuple(message.metadata.delta_path), message.delta.new_element)
        elif kind == "page_not_found":
            self.errors.append(f"{self.page}: no such page")
        elif kind == "script_finished" and message.script_finished == ForwardMsg.FINISHED_WITH_COMPILE_ERROR:
            self.errors.append(f"{self.page}: does not compile")

    def show(self, place: tuple, element: object) -> None:
        """Note an element, the errors among them, and the files that it needs."""
        kind = element.WhichOneof("type")
        self.elements[place] = element
        if kind == "exception":
            self.errors.append(f"{self.page}: {element.exception.type}: {element.exception.message}")
        elif kind == "alert" and element.alert.format == Alert.ERROR:
            self.errors.append(f"{self.page}: {element.alert.body}")
        elif kind == "audio":
            self.media.add(element.audio.url)
        elif kind == "imgs":
            self.media |= {image.url for image in element.imgs.imgs if image.url.startswith("/")}

    def found(self, kind: str) -> list:
        """The elements of a kind that are on the screen."""
        return [getattr(e, kind) for e in self.elements.values() if e.WhichOneof("type") == kind]

    async def click(self, label: str, *, kind: str) -> None:
        """Press the button that says so."""
        (button,) = [button for button in self.found("button") if label in button.label]
        await self.run(WidgetState(id=button.id, trigger_value=True), kind=kind)

    async def upload(self, name: str, content: bytes, *, kind: str) -> None:
        """Give the only uploader of the page a file."""
        (uploader,) = self.found("file_uploader")
        request = BackMsg()
        request.file_urls_request.request_id = name
        request.file_urls_request.file_names.append(name)
        request.file_urls_request.session_id = self.session
        await self.socket.send(request.SerializeToString())
        (urls,) = (await self.until("file_urls_response")).file_urls_response.file_urls
        began = time.monotonic()
        answer = await asyncio.to_thread(
            self.http.put,
            self.url + urls.upload_url,
            files={name: (name, content)},
            headers={"X-Xsrftoken": self.http.cookies[XSRF]},
            timeout=PATIENCE,
        )
        self.took["file"].append(time.monotonic() - began)
        if not answer.ok:
            raise TroubleError(f"upload: HTTP {answer.status_code}")
        state = WidgetState(id=uploader.id)
        file = state.file_uploader_state_value.uploaded_file_info.add(name=name, size=len(content))
        file.file_id = urls.file_id
        file.file_urls.CopyFrom(urls)
        await self.run(state, kind=kind)

    async def poll(self, seconds: float) -> None:
        """Look on as a page asks for it: a look a second, late ones at once, as the server joins them."""
        end = time.monotonic() + seconds
        while self.polls and time.monotonic() < end:
            began = time.monotonic()
            ((fragment, interval),) = self.polls.items()
            await self.run(kind="look", fragment=fragment)
            await asyncio.sleep(max(0.0, began + interval - time.monotonic()))

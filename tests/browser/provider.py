"""An OpenID Connect provider for tests: whoever comes is the person it was told; nobody is asked anything.

The authorization code flow of OpenID Connect Core 1.0, 3.1, as far as a client needs it.
"""

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "mer", "a secret of this test alone"


class Provider:
    """Signs in `person`, whose claims can be changed at any time. `url` is its issuer."""

    def __init__(self, **person) -> None:
        self.person, self.nonces = person, {}
        self.key = RSAKey.generate_key(2048, {"kid": "test", "use": "sig", "alg": "RS256"})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def secrets(self, app: str) -> str:
        """What .streamlit/secrets.toml holds for an app at this address."""
        return (
            f'[auth]\nredirect_uri = "{app}/oauth2callback"\ncookie_secret = "{"x" * 40}"\n'
            f'client_id = "{CLIENT}"\nclient_secret = "{SECRET}"\n'
            f'server_metadata_url = "{self.url}/.well-known/openid-configuration"\n'
        )

    def about(self) -> dict:
        ends = ("authorization", "token", "jwks")
        return {
            "issuer": self.url,
            **{f"{end}_{'uri' if end == 'jwks' else 'endpoint'}": f"{self.url}/{end}" for end in ends},
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    def authorize(self, asked: dict[str, str]) -> str:
        """Where the browser is sent, with a code."""
        code = f"code{len(self.nonces)}"
        self.nonces[code] = asked.get("nonce")
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def token(self, asked: dict[str, str]) -> dict:
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 3600} | self.person
        claims |= {"nonce": nonce} if (nonce := self.nonces.pop(asked["code"])) else {}
        signed = jwt.encode({"alg": "RS256", "kid": "test"}, claims, self.key)
        return {"access_token": "none", "token_type": "Bearer", "expires_in": 3600, "id_token": signed}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                place = urlsplit(self.path)
                if place.path == "/authorization":
                    self.send_response(302)
                    asked = {key: values[0] for key, values in parse_qs(place.query).items()}
                    self.send_header("Location", provider.authorize(asked))
                    self.end_headers()
                elif place.path == "/jwks":
                    self.answer({"keys": [provider.key.as_dict(private=False)]})
                else:
                    self.answer(provider.about())

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self.answer(provider.token({key: values[0] for key, values in parse_qs(body).items()}))

            def answer(self, data):
                content = json.dumps(data).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *words):
                """Say nothing."""

        return Handler

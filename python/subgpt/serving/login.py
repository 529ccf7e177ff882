"""The way in for people: a form that takes the key and gives a signed cookie for it."""

import secrets
from collections.abc import Callable
from html import escape
from urllib.parse import parse_qs

from itsdangerous import BadData, TimestampSigner
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from subgpt.serving.routes import LOGIN

_NAME = "subgpt"
_SECONDS = 7 * 24 * 3600
_FIELDS = 8  # which browsers or their extensions may add to
_FORM = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>subgpt</title>
<style>
  body {{ font: 1rem/1.5 system-ui, sans-serif; display: grid; place-items: center; min-height: 90vh;
         color-scheme: light dark; }}
  form {{ display: grid; gap: .75rem; width: min(20rem, 90vw); }}
  input, button {{ font: inherit; padding: .5rem; }}
</style>
<form method="post" action="{action}">
  <h1>subgpt</h1>
  <label for="key">Key of this server</label>
  <input id="key" name="key" type="password" autocomplete="current-password" required autofocus>
  <button>Go on</button>
  <p role="alert">{said}</p>
</form></html>
"""


class Cookies:
    """Signed cookies that stand for the key, good until the server ends or a week has passed."""

    def __init__(self) -> None:
        self._signer = TimestampSigner(secrets.token_bytes(32), salt="subgpt.login")

    def are_in(self, connection: HTTPConnection) -> bool:
        """Whether a request brings one of ours."""
        try:
            self._signer.unsign(connection.cookies.get(_NAME, ""), max_age=_SECONDS)
        except BadData:
            return False
        return True

    def give(self, response: Response, *, secure: bool) -> None:
        """Put one into a response; scripts cannot read it, other sites' requests do not carry it."""
        value = self._signer.sign(secrets.token_hex(8)).decode()
        response.set_cookie(
            _NAME, value, max_age=_SECONDS, httponly=True, samesite="strict", secure=secure, path="/"
        )


class Login:
    """The form, and what becomes of it."""

    def __init__(self, is_key: Callable[[str], bool], cookies: Cookies) -> None:
        self._is_key, self._cookies = is_key, cookies

    async def answer(self, request: Request) -> Response:
        """Show the form, or take what was filled in."""
        if request.method != "POST":
            return self._form("", 200)
        try:
            fields = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=_FIELDS)
        except ValueError:
            return self._form("That is more than this form has; fill in the key alone.", 400)
        if not self._is_key(fields.get("key", [""])[0]):
            return self._form("That is not the key.", 401)
        response = RedirectResponse("/", 303)
        self._cookies.give(response, secure=request.url.scheme == "https")
        return response

    def _form(self, said: str, status: int) -> Response:
        return HTMLResponse(_FORM.format(action=LOGIN, said=escape(said)), status)

"""HTTP: the one place where requests are sent, and the only one where the secret is revealed.

The connections to the target are the observed ones, so that the first request travels on the
connection that `tcp` opened and `tls` verified. Redirects are never followed, cookies are never
kept, nothing is retried but a request that met a kept-alive connection the server had just closed.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlencode

from diag.facts import Credential, Target
from diag.facts import Wire as TlsWire
from diag.later import Later
from diag.net import address
from diag.net.address import Address
from diag.net.answer import Answer, Failure, Headers
from diag.net.exchange import Carrier, Exchange, Question
from diag.net.watch import Record
from diag.net.wire import Wire
from diag.record import replace
from diag.secret import Secret, authorization
from diag.target import TOKEN_URL
from diag.version import VERSION

if TYPE_CHECKING:
    from diag.context import Run
    from diag.net.elsewhere import Elsewhere

__all__ = ["MAX_BODY", "USER_AGENT", "Answer", "Begun", "Engine", "Failure", "Headers", "Http"]

USER_AGENT = f"bbdiag/{VERSION}"
GRANT_USERS = ("x-token-auth",)  # what git joins such a token with
_LARGEST_GRANT = 64 * 1024  # bytes; tokens have some 2,500
MAX_BODY = 8 * 1024 * 1024  # bytes; a page of 1000 repositories is about 2.5 MB
_UNCONNECTED = {"connect", "tls", "reset", "empty", "withheld", "deadline"}


class Engine:
    """What all checks of a run share: connections, the fuse of the secret, the request counter."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.base: str | None = None
        self.requests = 0
        self.fuse_blown = False
        self._granted: Credential | None = None  # an OAuth consumer's token, in place of its secret
        self._grant_tried = False
        self._lock = threading.Lock()
        self._foreseen: dict[Key, _Foreseen] = {}
        self._under_way: list[_Foreseen] = []
        self._wires: dict[bool, Wire] = {}  # by whether the certificate is verified
        self._elsewhere: dict[bool, Elsewhere] = {}

    def carrier(self, question: Question) -> Carrier:
        """Who sends it: what goes to the target travels on the connections that are observed."""
        url, verify, dialer = question.url, question.verify, self.run.dialer
        dialer.prepare(url.scheme, url.host, url.port)
        target = self.run.facts.get(Target)
        own = isinstance(target, Target) and url.origin == _origin(target)
        with self._lock:
            if own and question.content is None and dialer.forwarder(url.host, url.port) is None:
                if verify not in self._wires:
                    self._wires[verify] = Wire(self.run, verify=verify)
                return self._wires[verify]
            from diag.net.elsewhere import Elsewhere

            if verify not in self._elsewhere:
                self._elsewhere[verify] = Elsewhere(self.run, verify=verify)
            return self._elsewhere[verify]

    def foresee(self, key: Key, question: Question, record: Record) -> None:
        """Note down what somebody is going to ask for: `begin` sends it."""
        with self._lock:
            if key not in self._foreseen:
                self._foreseen[key] = _Foreseen(self, question, record)

    def begin(self, *, signed: bool) -> None:
        """Send what is foreseen with the secret, or without."""
        with self._lock:
            new = [
                one
                for one in self._foreseen.values()
                if not one.begun and one.exchange.question.auth is signed
            ]
            if signed:
                self._under_way += new
            for one in new:
                one.begin()

    def let_come(self) -> None:
        """Wait until what was begun with the secret has been answered: whoever goes on may be
        answered 401."""
        with self._lock:
            under_way = list(self._under_way)
        for foreseen in under_way:
            foreseen.wait()
        with self._lock:
            self._under_way = [one for one in self._under_way if one not in under_way]

    def claim(self, key: Key) -> _Foreseen | None:
        """The request that was sent ahead, if this one was. Nobody else gets it."""
        with self._lock:
            return self._foreseen.pop(key, None)

    def open_ahead(self, address: str, timeout: float, count: int) -> None:
        """Open so many more connections to an address of the target, which https requests will
        need. Nothing is sent on them but TLS."""
        target = self.run.facts.get(Target)
        if not self.run.alone or not isinstance(target, Target) or target.scheme != "https":
            return
        with self._lock:
            if True not in self._wires:
                self._wires[True] = Wire(self.run, verify=True)
            wire = self._wires[True]
        port = target.port
        mapped = self.run.dialer.mapped(target.host, port)
        place = (target.host, port if mapped is None else mapped[1], address, timeout)
        for _ in range(count):
            threading.Thread(target=wire.open_ahead, args=place, daemon=True).start()

    def may_send_secret(self, url: Address) -> bool:
        """The contract's rule for the secret: to the origin that the user typed, over TLS that
        passed verification or over http:// where the user typed that, and never after a 401."""
        target = self.run.facts.get(Target)
        wire = self.run.facts.get(TlsWire)
        if self.fuse_blown or not isinstance(target, Target) or not isinstance(wire, TlsWire):
            return False
        if url.origin != _origin(target):
            return False
        return wire.verified if target.scheme == "https" else True

    def credential(self) -> Credential | None:
        """What the run signs in with: what the user gave, or what a consumer got for it."""
        given = self.run.facts.get(Credential)
        return self._granted or (given if isinstance(given, Credential) else None)

    def consumer(self, url: str) -> Credential | None:
        """The OAuth consumer that may be exchanged for a token at `url`, once in a run: there is no
        other place for it than Bitbucket Cloud's, and no other request that may carry it."""
        target, given = self.run.facts.get(Target), self.run.facts.get(Credential)
        cloud = isinstance(target, Target) and target.kind == "cloud" and url == TOKEN_URL
        if not cloud or not isinstance(given, Credential) or given.scheme != "grant":
            return None
        with self._lock:
            tried, self._grant_tried = self._grant_tried or self.fuse_blown, True
        return None if tried else given

    def adopt(self, token: Secret) -> None:
        """Sign in with this token from now on, and keep it out of all output."""
        self.run.scrubber.learn(token, GRANT_USERS)
        self._granted = Credential(token, "bearer", None, "the OAuth consumer's grant")

    def count(self) -> None:
        with self._lock:
            self.requests += 1

    def rest(self) -> None:
        """Close the connections that are kept for further requests."""
        for carrier in self._carriers():
            carrier.rest()

    def close(self) -> None:
        for carrier in self._carriers():
            carrier.close()

    def _carriers(self) -> list[Wire | Elsewhere]:
        with self._lock:
            return [*self._wires.values(), *self._elsewhere.values()]


# Of a GET: the address, the further headers, the most bytes, and whether the secret goes with it.
Key = tuple[str, tuple[tuple[str, str], ...], int, bool]


class _Foreseen:
    """A request that is sent before somebody asks for it."""

    def __init__(self, engine: Engine, question: Question, record: Record) -> None:
        self._engine = engine
        self._answer: Later[Answer] | None = None
        self._record = record
        self.exchange = Exchange(engine, question, None, fresh=False)

    @property
    def begun(self) -> bool:
        return self._answer is not None

    def begin(self) -> None:
        """Send it, and read the answer."""
        self._answer = Later(self._work)

    def _work(self) -> Answer:
        answer = self.exchange.perform(self._engine.carrier(self.exchange.question))
        self.exchange.watch.tell(self._record, f"GET {answer.url}")
        return answer

    def wait(self) -> Answer | None:
        """What came of it; None if it was not begun with, or the run is over before."""
        return None if self._answer is None else self._answer.wait(self._engine.run.cutoff())


class Begun:
    """A request that was sent, and whose answer waits until it is read."""

    def __init__(self, finish: Callable[[], Answer], exchange: Exchange | None = None) -> None:
        self._finish = finish
        self._exchange = exchange

    def answer(self) -> Answer:
        """Read the answer. It has all its time from now on: others may have been read before."""
        if self._exchange is not None:
            self._exchange.allow()
        return self._finish()

    def skim(self) -> Answer:
        """Read the answer though nobody needs it, as far as it comes soon: the connection is wanted
        again, and the secret may have been refused."""
        if self._exchange is not None:
            self._exchange.hurry()
        return self._finish()


class Http:
    """The engine as one check sees it: its requests are timed under the check's name."""

    def __init__(self, engine: Engine, record: Record) -> None:
        self._engine = engine
        self._record = record

    @property
    def base(self) -> str | None:
        """Where paths are relative to: the instance's base URL, once check `http` found it."""
        return self._engine.base

    @base.setter
    def base(self, value: str) -> None:
        self._engine.base = value

    def get(
        self,
        url: str,
        *,
        query: Mapping[str, str | int] | Sequence[tuple[str, str | int]] | None = None,
        auth: bool = False,
        method: Literal["GET", "HEAD"] = "GET",
        headers: Mapping[str, str] | None = None,
        max_bytes: int = MAX_BODY,
        timeout: float | None = None,
        fresh: bool = False,
        verify: bool | None = None,
        small: bool = False,
        linger: float = 0.0,
        alongside: bool = False,
    ) -> Answer:
        """Send one request and return what came, never raising for trouble on the network.

        Args:
            url: absolute, or a path below the instance's base URL.
            query: parameters, encoded here.
            auth: send the secret, where the contract allows it; else `failure` is "withheld".
            max_bytes: a longer body is cut and is a failure, "endless".
            timeout: seconds until the head must be there, and again for the body (up to four times
                that while it flows); default `--timeout`. Both end with the run's deadline.
            fresh: on a connection of its own.
            verify: whether to verify the certificate (`auth` always does); default: as the run.
            small: on a direct connection on which neither side sends packets of more than about
                600 bytes.
            linger: seconds for which a late head can be awaited longer, where the target was asked:
                then the answer, a "timeout" as without, has `later`.
            alongside: once this has left, what was noted down with `ahead` and carries the secret
                may follow, before the answer is there. Other requests with the secret wait until
                all that has come to its end.
        """
        if auth and not alongside:
            self._engine.let_come()
        full = self._full(url, query)
        plain = method == "GET" and verify is None and not (fresh or timeout or small)
        if plain and (foreseen := self._foreseen(_key(full, headers, max_bytes, auth=auth))):
            return foreseen
        question = self._question(full, method, headers, max_bytes, verify, auth=auth, small=small)
        if isinstance(question, Answer):
            return question
        carrier = self._engine.carrier(question)
        exchange = Exchange(self._engine, question, timeout, fresh, linger)
        if alongside:
            exchange.left_first = partial(self._engine.begin, signed=True)
        exchange.begin(carrier)
        return self._finish(exchange, carrier, timeout)

    def begin(
        self,
        url: str,
        *,
        query: Mapping[str, str | int] | Sequence[tuple[str, str | int]] | None = None,
        auth: bool = False,
    ) -> Begun | None:
        """Send a GET now and read its answer when it is wanted, so that one thread has several
        under way. None where no connection can be had for it, as there are too many.

        Args:
            url, query, auth: as for `get`.
        """
        if auth:
            self._engine.let_come()
        question = self._question(self._full(url, query), "GET", None, MAX_BODY, None, auth=auth)
        if isinstance(question, Answer):
            return Begun(lambda: question)
        carrier = self._engine.carrier(question)
        exchange = Exchange(self._engine, question, None, fresh=False, ahead=True)
        finish = partial(self._finish, exchange, carrier)
        exchange.begin(carrier)
        if not isinstance(carrier, Wire):  # httpx sends and waits in one: in a thread, so
            return Begun(partial(self._await, Later(finish), question))
        if exchange.unconnected:
            finish()
            return None
        return Begun(finish, exchange)

    def _await(self, later: Later[Answer], question: Question) -> Answer:
        """What comes of it before the run is over."""
        answer = later.wait(self._engine.run.cutoff())
        return answer or Answer(question.url.text, question.method, failure="deadline")

    def _finish(self, exchange: Exchange, carrier: Carrier, timeout: float | None = None) -> Answer:
        """Read the answer to a request that was begun."""
        question = exchange.question
        answer = exchange.finish()
        exchange.watch.tell(self._record, f"{question.method} {answer.url}")
        if answer.failure in {"empty", "reset"} and exchange.reused and exchange.needed:
            # A kept connection that the server closes meanwhile says nothing about the server.
            exchange = Exchange(self._engine, question, timeout, fresh=True)
            answer = exchange.perform(carrier)
            exchange.watch.tell(self._record, f"{question.method} {answer.url}")
        return answer

    def ahead(
        self,
        url: str,
        *,
        query: Mapping[str, str | int] | Sequence[tuple[str, str | int]] | None = None,
        auth: bool = False,
        headers: Mapping[str, str] | None = None,
        max_bytes: int = MAX_BODY,
    ) -> None:
        """Have a GET sent that will be asked for with the same arguments: soon, or if the secret
        goes with it, right after a request that others may stand beside (`alongside`).

        Not for what may be answered 401: with the secret, that has to be asked by itself.
        """
        if not self._engine.run.alone:
            return
        full = self._full(url, query)
        question = self._question(full, "GET", headers, max_bytes, None, auth=auth)
        if isinstance(question, Question):
            self._engine.foresee(_key(full, headers, max_bytes, auth=auth), question, self._record)

    def open_ahead(self, address: str, timeout: float, count: int) -> None:
        """Open further connections to an address of the target, for requests side by side."""
        self._engine.open_ahead(address, timeout, count)

    def _foreseen(self, key: Key) -> Answer | None:
        """The answer to a request that was sent ahead, unless its connection failed: then it has to
        be asked in the ordinary way."""
        foreseen = self._engine.claim(key)
        if foreseen is None:
            return None
        answer = foreseen.wait()
        return None if answer is None or answer.failure in _UNCONNECTED else answer

    def _full(
        self,
        url: str,
        query: Mapping[str, str | int] | Sequence[tuple[str, str | int]] | None,
    ) -> str:
        """The whole address."""
        base = self._engine.base or self._target().base_url
        full = base + url if url.startswith("/") else url
        if query:
            full += ("&" if "?" in full else "?") + urlencode(query)
        return full

    def _question(
        self,
        full: str,
        method: Literal["GET", "HEAD"],
        headers: Mapping[str, str] | None,
        max_bytes: int,
        verify: bool | None,
        *,
        auth: bool,
        small: bool = False,
    ) -> Question | Answer:
        """The request as it is to be sent, or why it cannot be."""
        engine = self._engine
        try:
            where = address.read(full)
        except ValueError as error:
            return Answer(full, method, failure="connect", detail=self._quoted(error))
        full = where.text
        sending = {"User-Agent": USER_AGENT, "Accept": "application/json"}
        sending |= {"Accept-Encoding": "identity", "Connection": "keep-alive", **(headers or {})}
        if auth:
            credential = engine.credential()
            if credential is None or credential.secret is None:
                return Answer(full, method, failure="withheld", detail="no credential was given")
            if credential.scheme == "grant":
                return Answer(full, method, failure="withheld", detail="no token was granted")
            if verify is False or not engine.may_send_secret(where):
                return Answer(full, method, failure="withheld", detail="not safe to send it there")
            sending["Authorization"] = authorization(
                credential.scheme, credential.user, credential.secret
            )
        if verify is None:
            wire = engine.run.facts.get(TlsWire)
            verify = not (isinstance(wire, TlsWire) and wire.secure and not wire.verified)
        return Question(method, where, tuple(sending.items()), verify, max_bytes, auth, small=small)

    def client_credentials_grant(self, url: str) -> Answer:
        """Exchange an OAuth consumer's key and secret for the token the run then signs in with.

        The one request of bbdiag that is no GET or HEAD, as RFC 6749, section 4.4, wants it: made
        only for a credential that is good for nothing else, only to Bitbucket Cloud's own address,
        over TLS that passes verification here and now, at most once in a run and never again. The
        answer is without the tokens in it.
        """
        engine = self._engine
        consumer = engine.consumer(url)
        if consumer is None or consumer.secret is None:
            return Answer(url, "POST", failure="withheld", detail="no consumer to be exchanged")
        headers = {
            "User-Agent": USER_AGENT,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/x-www-form-urlencoded",
            "Authorization": authorization("basic", consumer.user, consumer.secret),
        }
        form = b"grant_type=client_credentials"
        sent = tuple(headers.items())
        question = Question("POST", address.read(url), sent, True, _LARGEST_GRANT, True, form)
        exchange = Exchange(engine, question, None, fresh=True)
        answer = exchange.perform(engine.carrier(question))
        exchange.watch.tell(self._record, f"POST {url}")
        told = answer.json()
        if not isinstance(told, dict):
            return answer
        token = told.get("access_token")
        if answer.status == 200 and isinstance(token, str) and token:
            engine.adopt(Secret(token))
        shown = {name: value for name, value in told.items() if not name.endswith("_token")}
        return replace(answer, body=json.dumps(shown).encode())

    @property
    def granted(self) -> bool:
        """Whether a consumer got its token."""
        credential = self._engine.credential()
        return credential is not None and credential.scheme != "grant"

    def _target(self) -> Target:
        target = self._engine.run.facts[Target]
        assert isinstance(target, Target)  # noqa: S101 - nothing sends a request without a target
        return target

    def _quoted(self, error: Exception) -> str:
        return self._engine.run.scrubber.text(str(error), 300)


def _key(full: str, headers: Mapping[str, str] | None, max_bytes: int, *, auth: bool) -> Key:
    return full, tuple((headers or {}).items()), max_bytes, auth


def _origin(target: Target) -> tuple[str, str, int]:
    """As `Address.origin` says it."""
    return target.scheme, target.host.lower(), target.port

"""Whom a transport trusts, and what it shows of itself: TLS contexts, made late and shared.

Rules (contract 5.7, field-pains row 47):

1. A context of the user's is used as it is and never altered.
2. Ours are made at the first https dial, one for all transports of equal settings: it costs some
   25 ms and 1 MB. They accept TLS 1.2 and newer and offer HTTP/1.1 only (ALPN).
3. The files behind them are looked at before each dial, and by the housekeeper at most once a second:
   one `stat` each. What has changed is loaded; if it cannot be (certificate and key are often replaced
   one after the other), what was loaded last stays in force, and the logger says so once.
4. No certificate at all is an error of the configuration, and says which setting it came from.
"""

from __future__ import annotations

import os
import ssl
import sys
from typing import TYPE_CHECKING, NamedTuple

from pooltransport.errors import ConfigError
from pooltransport.trust_files import TRUSTSTORE, client_cert_parts

if TYPE_CHECKING:
    from pooltransport.options import TransportOptions

    Stamps = tuple[tuple[int, int, int] | None, ...]

_LOOK_EVERY = 1.0
# Programs with a client certificate for each customer have many settings; others have one.
_MOST_CONTEXTS = 64
# Where authorities are if OpenSSL's own place is empty: Alpine and BSD, Fedora, RHEL, Debian, SUSE.
_SYSTEM_FILES = (
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/cert.pem",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/ca-bundle.pem",
)


class Settings(NamedTuple):
    """What a context of ours is made from. `file`, `directories`: authorities, and `origin` names their setting."""

    origin: str
    file: str | None
    directories: tuple[str, ...]
    client_cert: tuple[str, str | None, str | None] | None


# For each settings one context, under what its files looked like when it was made.
_contexts: dict[tuple[Settings, Stamps], ssl.SSLContext] = {}


class ContextSource:
    """The TLS context of one transport, as it is now."""

    __slots__ = ("_client_cert", "_loaded", "_look_at", "_options", "_refused", "current")

    def __init__(self, options: TransportOptions) -> None:
        self._options = options
        self._client_cert = client_cert_parts(options.client_cert)
        self._loaded: tuple[Settings, Stamps] | None = None
        self._refused: dict[tuple[Settings, Stamps], object] = {}  # since the last that was loaded
        self._look_at = 0.0
        self.current: ssl.SSLContext | None = None  # None before the first https dial

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection.

        Raises `ConfigError` if there is none: a file is missing, broken or holds no certificate.
        """
        given = self._options.ssl_context
        if given is not None and given != TRUSTSTORE:
            self.current = given  # type: ignore[assignment]
            return given  # type: ignore[return-value]
        settings = self._settings()
        wanted = (settings, _stamps(settings))
        if self.current is None or (wanted != self._loaded and wanted not in self._refused):
            self._load(wanted)
        assert self.current is not None, "loaded, or raised"
        return self.current

    def fresh(self) -> ssl.SSLContext:
        """Return a context by the files as they are now that nobody shares, for who adds to it. Raises as `context`."""
        return _make(self._settings())

    def look(self, now: float) -> None:
        """Load what has changed, if https is used at all; at most once a second."""
        if self.current is None or now < self._look_at:
            return
        self._look_at = now + _LOOK_EVERY
        self.context()

    def _settings(self) -> Settings:
        options = self._options
        if options.ca_file is not None:
            return Settings("ca_file", os.fspath(options.ca_file), (), self._client_cert)
        if options.ssl_context == TRUSTSTORE:
            return Settings(TRUSTSTORE, _system_file(), (), self._client_cert)
        file, directories = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
        if file or directories:
            names = " and ".join(n for n, v in (("SSL_CERT_FILE", file), ("SSL_CERT_DIR", directories)) if v)
            listed = tuple(part for part in (directories or "").split(":") if part)
            return Settings(names, file or None, listed, self._client_cert)
        import certifi  # noqa: PLC0415 - only a first https dial pays for it

        return Settings("certifi", certifi.where(), (), self._client_cert)

    def _load(self, wanted: tuple[Settings, Stamps]) -> None:
        context = _contexts.get(wanted)
        if context is None:
            try:
                context = _make(wanted[0])
            except ConfigError as error:
                if self.current is None:
                    raise
                mine = object()
                if self._refused.setdefault(wanted, mine) is mine:  # several threads may find it out at once
                    _log(
                        "the changed files are not used, those read before stay in force: %s", error, self._options.name
                    )
                return
            # Two threads may make it at once; one wins, and both are right.
            context = _contexts.setdefault(wanted, context)
            for old in [key for key in tuple(_contexts) if key[0] == wanted[0] and key != wanted]:
                _contexts.pop(old, None)
            while len(_contexts) > _MOST_CONTEXTS:
                _contexts.pop(next(iter(_contexts)), None)
        self._loaded = wanted
        self._refused.clear()
        self.current = context


def _stamps(settings: Settings) -> Stamps:
    """Return what tells that a file is another one: its time, size and number."""
    paths = [settings.file, *settings.directories, *(settings.client_cert or ())[:2]]
    return tuple(_stamp(path) for path in paths if path is not None)


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _make(settings: Settings) -> ssl.SSLContext:
    if settings.origin == TRUSTSTORE and sys.platform in ("darwin", "win32"):
        import truststore  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415 - an extra

        context: ssl.SSLContext = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    else:
        # Elsewhere the system's store is OpenSSL's, which is read once; truststore would do so for each handshake.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _load_authorities(context, settings)
        # What is in the file is trusted, also an intermediate authority or the server itself, as Go does.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if settings.client_cert is not None:
        _load_client_cert(context, *settings.client_cert)
    return context


def _load_authorities(context: ssl.SSLContext, settings: Settings) -> None:
    problems = []
    if settings.origin == TRUSTSTORE:
        context.set_default_verify_paths()  # directories too, which are looked into when they are needed
    if settings.file is not None:
        try:
            context.load_verify_locations(cafile=settings.file)
        except OSError as error:  # SSLError is one
            problems.append(f"{settings.file!r}: {_reason(error)}")
    for directory in settings.directories:
        try:
            _load_directory(context, directory)
        except OSError as error:
            problems.append(f"{directory!r}: {_reason(error)}")
    # Go skips what it cannot read, and then trusts nobody without a word. That is said here.
    if settings.origin != TRUSTSTORE and not context.cert_store_stats()["x509"]:
        raise ConfigError(
            f"{settings.origin}: no certificate of an authority could be read: {'; '.join(problems)}", "PTC112"
        )


def _load_directory(context: ssl.SSLContext, directory: str) -> None:
    """Load every file of `directory`, whatever its name: OpenSSL would want hashes for names, Go does not."""
    seen = set()
    for entry in sorted(os.listdir(directory)):
        path = os.path.realpath(os.path.join(directory, entry))
        if path in seen or not os.path.isfile(path):
            continue
        seen.add(path)
        try:
            context.load_verify_locations(cafile=path)
        except OSError:
            continue  # no certificate: as Go, which looks at the next


def _load_client_cert(context: ssl.SSLContext, file: str, key: str | None, password: str | None) -> None:
    files = repr(file) if key is None else f"{file!r} and {key!r}"
    try:
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(file, key, password or "")
    except OSError as error:
        reason = _reason(error)
        if password is not None and isinstance(error, ssl.SSLError) and "PEM lib" in str(error):
            reason = "the private key is broken, or the password does not open it"  # OpenSSL does not say which
        raise ConfigError(f"client_cert: {files} cannot be used: {reason}", "PTC112") from error


def _reason(error: OSError) -> str:
    if not isinstance(error, ssl.SSLError):
        return error.strerror or str(error)
    reason = error.reason or ""
    if reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
        return "the private key belongs to another certificate"
    if reason in ("NO_START_LINE", "NO_CERTIFICATE_OR_CRL_FOUND"):
        return "there is no certificate in it; PEM is wanted"
    return f"it is broken ({reason or str(error)})"


def _system_file() -> str | None:
    """Return the file of the system's authorities, as far as it is one; OpenSSL's own place first."""
    defaults = ssl.get_default_verify_paths()
    if defaults.cafile:
        return defaults.cafile
    return next((path for path in _SYSTEM_FILES if os.path.isfile(path)), None)


def _log(text: str, error: ConfigError, pool_name: str | None) -> None:
    import logging  # noqa: PLC0415 - only broken files pay for it

    logging.getLogger("pooltransport.config").warning(
        text, error, extra={"pool_name": pool_name, "code": error.codes[0], "option": None, "site": None}
    )

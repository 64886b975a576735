"""The progress webhook: what it sends, to whom it refuses to, and that nothing which goes wrong with it is in the way."""

import contextlib
import http.server
import ipaddress
import json
import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from character_likeness.nodes.errors import InputError
from character_likeness.nodes.lora_dataset import webhook
from character_likeness.nodes.lora_dataset.webhook import ALLOW_PRIVATE, LARGEST_BYTES, MOST_WAITING, Webhook, not_public

HERE = {ALLOW_PRIVATE: "1"}
NAME = "hooks.likeness.test"


class Server:
    """An http(s) server on this machine. got: (path, headers, body) of each request; answer: status, headers, seconds to wait before."""

    def __init__(self, certificate=None, address="127.0.0.1", status=204, headers=(), wait=0.0):
        self.got, self.names, self.released = [], [], threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append((self.path, dict(self.headers), body))
                outer.released.wait(wait)
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    for name, value in headers:
                        self.send_header(name, value)
                    self.end_headers()

            do_GET = do_POST

            def log_message(self, *_):
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass

        self.server = Quiet((address, 0), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            context.sni_callback = lambda _, name, __: self.names.append(name)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """(CA file, (certificate, key) for NAME), made for this run."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl command to make certificates with")
    folder = tmp_path_factory.mktemp("certificates")

    def run(*arguments):
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)

    run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=Likeness test CA")
    run("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.csr", "-subj", f"/CN={NAME}")
    (folder / "names").write_text(f"subjectAltName=DNS:{NAME}\n")
    run("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", "server.pem")
    return folder / "ca.pem", (folder / "server.pem", folder / "server.key")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The waits of real use made short."""
    monkeypatch.setattr(webhook, "SECONDS", 0.5)


def to(*addresses):
    """A resolver that gives these addresses for every name."""
    return lambda host, port: addresses


def trouble_of(hook):
    for _ in range(400):
        if hook.trouble:
            return hook.trouble
        time.sleep(0.01)
    raise AssertionError("nothing was said")


def wait_for(condition):
    for _ in range(400):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


# --- what is sent ---


def test_progress_arrives_as_json_in_order():
    with Server() as server:
        with Webhook(f"http://127.0.0.1:{server.port}/a/b?token=secret", HERE) as hook:
            for number in range(5):
                hook.send({"done": number, "all": 5, "name": "Ähre 😀\ud800"})
        assert [json.loads(body)["done"] for _, _, body in server.got] == list(range(5))
        path, headers, body = server.got[0]
        assert path == "/a/b?token=secret" and headers["Host"] == f"127.0.0.1:{server.port}" and headers["Content-Type"] == "application/json"
        assert json.loads(body)["name"].startswith("Ähre 😀") and hook.trouble == ""


def test_https_reaches_the_checked_address_under_its_own_name(certificates, monkeypatch):
    ca, certificate = certificates
    asked = []
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *more, **options: (asked.append(host), real(host, *more, **options))[1])
    with Server(certificate) as server:
        with Webhook(f"https://{NAME}:{server.port}/x", HERE, resolve=to("127.0.0.1"), ca=ca) as hook:
            hook.send({"done": 1})
        assert hook.trouble == "" and len(server.got) == 1
        assert server.names == [NAME] and server.got[0][1]["Host"] == f"{NAME}:{server.port}"
        # The system was asked for no name a second time: whoever answers then may lie.
        assert NAME not in map(str, asked)


def test_a_certificate_of_another_name_or_maker_is_not_accepted(certificates):
    ca, certificate = certificates
    with Server(certificate) as server:
        for host, trusted in ((NAME, None), ("other.likeness.test", ca)):
            with Webhook(f"https://{host}:{server.port}/x?token=secret", HERE, resolve=to("127.0.0.1"), ca=trusted) as hook:
                hook.send({"done": 1})
                said = trouble_of(hook)
            assert "CERTIFICATE_VERIFY_FAILED" in said and "secret" not in said
        assert server.got == []


def test_a_resolver_that_changes_its_mind_changes_nothing():
    answers = [["127.0.0.2"], ["127.0.0.3"]]
    with Server(address="127.0.0.2") as right:
        with Webhook(f"http://{NAME}:{right.port}/", HERE, resolve=lambda host, port: answers.pop(0)) as hook:
            hook.send({"done": 1})
        assert len(right.got) == 1 and answers == [["127.0.0.3"]] and hook.trouble == ""


def test_the_next_address_is_tried_where_one_cannot_be_reached():
    with Server() as server:
        with Webhook(f"http://{NAME}:{server.port}/", HERE, resolve=to("::1", "127.0.0.9", "127.0.0.1")) as hook:
            hook.send({"done": 1})
        assert len(server.got) == 1 and hook.trouble == ""


def test_no_proxy_of_the_environment_is_used(monkeypatch):
    with Server() as server, Server() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        with Webhook(f"http://127.0.0.1:{server.port}/", HERE) as hook:
            hook.send({"done": 1})
        assert len(server.got) == 1 and proxy.got == []


# --- whom it refuses ---


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.8.9.1", "loopback"),
        ("::1", "loopback"),
        ("10.1.2.3", "private"),
        ("172.16.0.1", "private"),
        ("192.168.1.1", "private"),
        ("fd00::1", "private"),
        ("fec0::1", "private"),
        ("64:ff9b:1::1", "reserved or private"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("100.64.0.1", "not public"),
        ("255.255.255.255", "private"),
        ("240.0.0.1", "private"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:169.254.169.254", "link-local"),
        ("2002:7f00:1::", "loopback"),
        ("2002:a9fe:a9fe::", "link-local"),
        ("64:ff9b::10.0.0.1", "private"),
        ("2001:0:a00:1::", "private"),
        ("localhost", "no address"),
        ("127.1", "no address"),
        ("", "no address"),
    ],
)
def test_addresses_that_are_not_public_are_known(address, kind):
    # What some are called depends on the version of Python.
    assert not_public(address) and not_public(address) in kind


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"])
def test_public_addresses_are_known(address):
    assert not_public(address) == ""


@given(st.sampled_from(["10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"]), st.integers(0, 2**24 - 1))
def test_no_form_of_a_private_address_passes(network, number):
    network = ipaddress.IPv4Network(network)
    ip = network[number % network.num_addresses]
    forms = (ip, f"::ffff:{ip}", f"64:ff9b::{ip}", ipaddress.IPv6Address((0x2002 << 112) | (int(ip) << 80)))
    assert all(not_public(str(form)) for form in forms)


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::ffff:192.168.0.1"]])
def test_a_name_with_any_private_address_is_refused_before_a_connection(addresses, monkeypatch):
    def connected(*_, **__):
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket, "create_connection", connected)
    for environ in ({}, {ALLOW_PRIVATE: "0"}):
        with Webhook(f"https://{NAME}/?token=secret", environ, resolve=to(*addresses)) as hook:
            hook.send({"done": 1})
            said = trouble_of(hook)
        assert addresses[-1] in said and ALLOW_PRIVATE in said and "secret" not in said


def test_an_address_in_digits_is_checked_like_a_name():
    with Server() as server:
        for host in ("127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1"):
            with Webhook(f"https://{host}:{server.port}/", {}) as hook:
                hook.send({"done": 1})
                assert "loopback" in trouble_of(hook) or "no address" in hook.trouble
        assert server.got == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://example.com/?token=secret", "http only with"),
        ("ftp://example.com/?token=secret", "'ftp:'"),
        ("file:///etc/passwd", "no host"),
        ("https://user:secret@example.com/", "user name or password"),
        ("https://secret@example.com/", "user name or password"),
        ("https://", "no host"),
        ("https://example.com:99999/?secret", "port"),
        ("example.com/?secret", "no scheme"),
        ("", "no scheme"),
        ("https://exa\nmple.com/secret", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_addresses_that_cannot_be_used_are_refused_at_once_and_not_repeated(url, said):
    with pytest.raises(InputError) as caught:
        Webhook(url, {})
    assert said in str(caught.value) and "secret" not in str(caught.value)


def test_no_redirect_is_followed():
    with Server() as secret:
        with Server(status=307, headers=[("Location", f"http://127.0.0.1:{secret.port}/")]) as server:
            with Webhook(f"http://127.0.0.1:{server.port}/", HERE) as hook:
                hook.send({"done": 1})
                assert "307, a redirect" in trouble_of(hook)
            assert len(server.got) == 1 and secret.got == []


# --- what goes wrong with it ---


@pytest.mark.parametrize(("status", "said"), [(404, "answers 404"), (500, "answers 500")])
def test_a_refusal_is_said_once_and_the_next_report_is_tried(status, said, caplog):
    with Server(status=status) as server:
        with caplog.at_level(logging.DEBUG), Webhook(f"http://127.0.0.1:{server.port}/path?token=secret", HERE) as hook:
            hook.send({"done": 1})
            hook.send({"done": 2})
            wait_for(lambda: len(server.got) == 2)
        assert said in hook.trouble
        assert [record.name for record in caplog.records if record.levelno > logging.DEBUG] == ["likeness"]
        assert not any("token" in record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG)


def test_a_server_that_never_answers_is_given_up_and_newer_progress_is_sent_instead_of_older():
    with Server(wait=60) as server:
        hook = Webhook(f"http://127.0.0.1:{server.port}/", HERE)
        started = time.monotonic()
        for number in range(100):
            hook.send({"done": number})
        assert time.monotonic() - started < 0.5
        wait_for(lambda: len(server.got) == 2)
        assert "no answer within 0.5 seconds" in trouble_of(hook)
        assert [json.loads(body)["done"] for _, _, body in server.got][-1] >= 100 - MOST_WAITING
        started = time.monotonic()
        hook.close()
        assert time.monotonic() - started < webhook.LAST_SECONDS + 1


def test_closing_sends_what_waits_the_newest_at_least():
    with Server(wait=0.1) as server:
        hook = Webhook(f"http://127.0.0.1:{server.port}/", HERE)
        for number in range(MOST_WAITING):
            hook.send({"done": number})
        hook.close()
        arrived = [json.loads(body)["done"] for _, _, body in server.got]
        assert arrived[0] == 0 and arrived[-1] == MOST_WAITING - 1 and arrived == sorted(arrived)
        hook.send({"done": 99})
        hook.close()
        time.sleep(0.05)
        assert [json.loads(body)["done"] for _, _, body in server.got] == arrived


def test_a_resolver_that_hangs_or_fails_is_not_in_the_way():
    released = threading.Event()
    hook = Webhook("https://example.com/", {}, resolve=lambda host, port: released.wait(30) or [])
    started = time.monotonic()
    hook.send({"done": 1})
    wait_for(lambda: not hook._waiting)
    hook.send({"done": 2})
    hook.close()
    assert time.monotonic() - started < webhook.LAST_SECONDS + 1
    assert "1 reports were not sent" in hook.trouble
    released.set()

    def fails(host, port):
        raise socket.gaierror("no such name")

    def breaks(host, port):
        raise KeyError("token=secret")

    for resolve, said in ((fails, "no address"), (to(), "no address"), (breaks, "KeyError")):
        with Webhook("https://example.com/?token=secret", {}, resolve=resolve) as hook:
            hook.send({"done": 1})
            assert said in trouble_of(hook) and "secret" not in hook.trouble


def test_nothing_listening_is_said():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Webhook(f"http://127.0.0.1:{port}/", HERE) as hook:
        hook.send({"done": 1})
        assert "no connection is possible" in trouble_of(hook)


def test_reports_that_cannot_be_sent_are_said_and_others_go_on():
    class Broken:
        def __str__(self):
            raise RuntimeError

    round_trip = {}
    round_trip["self"] = round_trip
    for report, said in (({"score": float("nan")}, "JSON"), ({"a": Broken()}, "JSON"), (round_trip, "JSON"), ({"a": "x" * LARGEST_BYTES}, "bytes")):
        with Server() as server:
            with Webhook(f"http://127.0.0.1:{server.port}/", HERE) as hook:
                hook.send(report)
                hook.send({"path": webhook.Path("a")})
            assert said in hook.trouble
            assert [json.loads(body) for _, _, body in server.got] == [{"path": "a"}]


def test_a_large_answer_is_not_read():
    sent = []

    def talk(server):
        connection, _ = server.accept()
        connection.recv(65536)
        with contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            for _ in range(2000):
                sent.append(connection.send(b"x" * 65536))

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=talk, args=(server,), daemon=True).start()
        with Webhook(f"http://127.0.0.1:{server.getsockname()[1]}/", HERE) as hook:
            hook.send({"done": 1})
        time.sleep(0.1)
    assert hook.trouble == "" and sum(sent) < 20_000_000


def test_a_webhook_that_is_not_used_starts_nothing():
    before = threading.active_count()
    hook = Webhook("https://example.com/", {})
    assert threading.active_count() == before
    hook.close()
    hook.close()
    assert hook.trouble == ""

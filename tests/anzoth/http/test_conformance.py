"""Raw bytes in, status out: malformed requests, smuggling attempts, limits at the cap and beyond.

Expectations are RFC 9110 and RFC 9112 plus our own limits. Each case is sent whole and once more
byte by byte: how TCP cuts the stream must make no difference.
"""

from __future__ import annotations

import pytest

from anzoth.config import HttpConfig

CONFIG = HttpConfig(max_head_bytes=2048, max_header_fields=20, max_target_bytes=512)

HOST = b"Host: x\r\n"
END = b"\r\n"


def get(target: bytes = b"/", fields: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    return b"GET " + target + b" " + version + b"\r\n" + HOST + fields + END


def post(fields: bytes, body: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\n" + HOST + fields + END + body


def chunked(body: bytes, fields: bytes = b"") -> bytes:
    return post(b"Transfer-Encoding: chunked\r\n" + fields, body)


def host(value: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: " + value + b"\r\n\r\n"


def head_of(size: int) -> bytes:
    """A valid head of exactly `size` bytes."""
    start = get(fields=b"A: ")[: -len(END)]
    return start + b"a" * (size - len(start) - 4) + b"\r\n\r\n"


def num_fields(count: int) -> bytes:
    return get(fields=b"A: b\r\n" * (count - 1))


def target_of(size: int) -> bytes:
    return get(b"/" + b"a" * (size - 1))


CASES: dict[str, tuple[bytes, int]] = {
    # well-formed
    "plain": (get(), 200),
    "no_space_after_colon": (get(fields=b"A:b\r\n"), 200),
    "white_space_around_value": (get(fields=b"A: \t b \t\r\n"), 200),
    "empty_value": (get(fields=b"A:\r\n"), 200),
    "obs_text_in_value": (get(fields=b"A: \xe9\xff\r\n"), 200),
    "one_blank_line_before": (b"\r\n" + get(), 200),
    "http_1_0_without_host": (b"GET / HTTP/1.0\r\n\r\n", 200),
    "absolute_form": (get(b"http://x/v1/models?a=b"), 200),
    "absolute_form_without_path": (get(b"http://X"), 200),
    "options_star": (b"OPTIONS * HTTP/1.1\r\n" + HOST + END, 200),
    "head_method": (b"HEAD / HTTP/1.1\r\n" + HOST + END, 200),
    "content_length": (post(b"Content-Length: 3\r\n", b"abc"), 200),
    "content_length_zero": (post(b"Content-Length: 0\r\n"), 200),
    "content_length_with_zeros": (post(b"Content-Length: 003\r\n", b"abc"), 200),
    "chunked": (chunked(b"3\r\nabc\r\n0\r\n\r\n"), 200),
    "chunked_in_upper_case": (post(b"Transfer-Encoding: Chunked\r\n", b"0\r\n\r\n"), 200),
    "chunked_with_extension": (chunked(b"3;a=b\r\nabc\r\n0\r\n\r\n"), 200),
    "chunked_with_trailer": (chunked(b"0\r\nA: b\r\n\r\n"), 200),
    "chunk_size_in_hex": (chunked(b"A\r\n0123456789\r\n0\r\n\r\n"), 200),
    "host_with_port": (host(b"localhost:8000"), 200),
    "host_ipv6": (host(b"[::1]:80"), 200),
    "host_escaped": (host(b"a%20b"), 200),
    "path_utf8": (get(b"/%C3%A9"), 200),
    "expect_ignored_in_1_0": (b"GET / HTTP/1.0\r\nExpect: tea\r\n\r\n", 200),
    # the request line
    "two_blank_lines_before": (b"\r\n\r\n" + get(), 400),
    "bare_lf_everywhere": (b"GET / HTTP/1.1\nHost: x\n\n", 400),
    "bare_lf_in_head": (b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", 400),
    "bare_lf_at_end": (b"GET / HTTP/1.1\r\nHost: x\r\n\n", 400),
    "bare_cr_in_value": (get(fields=b"A: b\rc\r\n"), 400),
    "cr_cr_lf": (b"GET / HTTP/1.1\r\r\nHost: x\r\n\r\n", 400),
    "http_0_9": (b"GET /\r\n\r\n", 400),
    "lower_case_version": (get(version=b"http/1.1"), 400),
    "long_version": (get(version=b"HTTP/1.10"), 400),
    "no_minor_version": (get(version=b"HTTP/1"), 400),
    "two_spaces": (b"GET  / HTTP/1.1\r\n" + HOST + END, 400),
    "tab_for_space": (b"GET\t/ HTTP/1.1\r\n" + HOST + END, 400),
    "space_in_target": (get(b"/a b"), 400),
    "space_before_method": (b" " + get(), 400),
    "space_after_version": (get(version=b"HTTP/1.1 "), 400),
    "version_1_2": (get(version=b"HTTP/1.2"), 505),
    "version_2_0": (get(version=b"HTTP/2.0"), 505),
    "http_2_preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "unknown_method": (b"BREW / HTTP/1.1\r\n" + HOST + END, 501),
    "lower_case_method": (b"get / HTTP/1.1\r\n" + HOST + END, 501),
    "connect": (b"CONNECT x:443 HTTP/1.1\r\n" + HOST + END, 501),
    "trace": (b"TRACE / HTTP/1.1\r\n" + HOST + END, 501),
    "method_with_bracket": (b"G{T / HTTP/1.1\r\n" + HOST + END, 400),
    "star_with_get": (get(b"*"), 400),
    "relative_target": (get(b"v1/models"), 400),
    "foreign_scheme": (get(b"ftp://x/"), 400),
    "absolute_form_of_other_host": (get(b"http://y/"), 400),
    "user_info_in_target": (get(b"http://a@x/"), 400),
    "fragment_in_target": (get(b"/#a"), 400),
    "target_not_ascii": (get(b"/\xc3\xa9"), 400),
    "bad_escape": (get(b"/%zz"), 400),
    "cut_escape": (get(b"/%4"), 400),
    "path_not_utf8": (get(b"/%ff"), 400),
    "path_with_escaped_nul": (get(b"/a%00b"), 400),
    "path_with_escaped_line_break": (get(b"/a%0d%0ab"), 400),
    "dot_dot_segment": (get(b"/a/../b"), 400),
    "escaped_dot_dot_segment": (get(b"/a/%2e%2e/b"), 400),
    # fields
    "folded_line": (get(fields=b"A: b\r\n c\r\n"), 400),
    "folded_transfer_encoding": (post(b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n"), 400),
    "folded_first_field": (b"GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400),
    "space_before_colon": (get(fields=b"A : b\r\n"), 400),
    "no_colon": (get(fields=b"A\r\n"), 400),
    "empty_name": (get(fields=b": b\r\n"), 400),
    "bracket_in_name": (get(fields=b"A[]: b\r\n"), 400),
    "not_ascii_in_name": (get(fields=b"\xc3\xa9: b\r\n"), 400),
    "nul_in_value": (get(fields=b"A: b\0c\r\n"), 400),
    "control_character_in_value": (get(fields=b"A: \x01\r\n"), 400),
    "delete_in_value": (get(fields=b"A: \x7f\r\n"), 400),
    "vertical_tab_in_transfer_encoding": (post(b"Transfer-Encoding:\x0bchunked\r\n"), 400),
    "two_keys": (get(fields=b"Authorization: a\r\nAuthorization: b\r\n"), 400),
    # Host
    "no_host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two_hosts": (get(fields=HOST), 400),
    "empty_host": (host(b""), 400),
    "host_with_space": (host(b"a b"), 400),
    "host_with_path": (host(b"a/b"), 400),
    "host_with_user": (host(b"a@b"), 400),
    "host_list": (host(b"a, b"), 400),
    "host_with_word_as_port": (host(b"a:b"), 400),
    "host_not_ipv6": (host(b"[::1::2]"), 400),
    "host_open_bracket": (host(b"[::1"), 400),
    "host_bad_escape": (host(b"a%zz"), 400),
    "http_1_0_with_bad_host": (b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n", 400),
    # the body's length
    "length_and_chunked": (post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b""), 400),
    "chunked_and_length": (post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b""), 400),
    "two_lengths": (post(b"Content-Length: 3\r\nContent-Length: 4\r\n", b"abc"), 400),
    "two_equal_lengths": (post(b"Content-Length: 3\r\nContent-Length: 3\r\n", b"abc"), 400),
    "two_equal_lengths_in_two_cases": (post(b"Content-Length: 3\r\ncontent-length:3\r\n"), 400),
    "length_list": (post(b"Content-Length: 3, 3\r\n", b"abc"), 400),
    "length_signed": (post(b"Content-Length: +3\r\n", b"abc"), 400),
    "length_negative": (post(b"Content-Length: -1\r\n"), 400),
    "length_hex": (post(b"Content-Length: 0x3\r\n", b"abc"), 400),
    "length_not_a_number": (post(b"Content-Length: three\r\n"), 400),
    "length_empty": (post(b"Content-Length:\r\n"), 400),
    "length_with_space": (post(b"Content-Length: 1 0\r\n"), 400),
    "length_of_30_digits": (post(b"Content-Length: " + b"9" * 30 + END), 400),
    "length_too_large": (post(b"Content-Length: 99999999999\r\n"), 413),
    "chunked_in_1_0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "two_codings": (post(b"Transfer-Encoding: gzip, chunked\r\n"), 501),
    "chunked_twice": (post(b"Transfer-Encoding: chunked, chunked\r\n"), 501),
    "chunked_in_two_fields": (chunked(b"", b"Transfer-Encoding: chunked\r\n"), 501),
    "identity": (post(b"Transfer-Encoding: identity\r\n"), 501),
    "chunked_misspelt": (post(b"Transfer-Encoding: xchunked\r\n"), 501),
    "chunked_quoted": (post(b'Transfer-Encoding: "chunked"\r\n'), 501),
    "expect_tea": (post(b"Content-Length: 3\r\nExpect: tea\r\n"), 417),
    # chunks
    "chunk_size_missing": (chunked(b"\r\nabc\r\n0\r\n\r\n"), 400),
    "chunk_size_not_hex": (chunked(b"g\r\nabc\r\n0\r\n\r\n"), 400),
    "chunk_size_signed": (chunked(b"+3\r\nabc\r\n0\r\n\r\n"), 400),
    "chunk_size_with_0x": (chunked(b"0x3\r\nabc\r\n0\r\n\r\n"), 400),
    "chunk_size_with_space": (chunked(b"3 \r\nabc\r\n0\r\n\r\n"), 400),
    "chunk_size_after_space": (chunked(b" 3\r\nabc\r\n0\r\n\r\n"), 400),
    "chunk_size_of_17_digits": (chunked(b"0" * 16 + b"3\r\nabc\r\n0\r\n\r\n"), 400),
    "chunk_size_with_bare_lf": (chunked(b"3\nabc\r\n0\r\n\r\n"), 400),
    "chunk_longer_than_it_says": (chunked(b"3\r\nabcd\r\n0\r\n\r\n"), 400),
    "chunk_without_crlf": (chunked(b"3\r\nabc0\r\n\r\n"), 400),
    "chunk_ended_by_bare_lf": (chunked(b"3\r\nabc\n0\r\n\r\n"), 400),
    "chunk_extension_too_long": (chunked(b"3;" + b"a" * 300 + b"\r\nabc\r\n0\r\n\r\n"), 400),
    "chunk_extension_with_cr": (chunked(b"3;a\rb\r\nabc\r\n0\r\n\r\n"), 400),
    "chunk_extension_with_nul": (chunked(b"3;\0\r\nabc\r\n0\r\n\r\n"), 400),
    "trailer_without_colon": (chunked(b"0\r\nA\r\n\r\n"), 400),
    "trailer_folded": (chunked(b"0\r\nA: b\r\n c\r\n\r\n"), 400),
    "trailer_with_bare_lf": (chunked(b"0\r\nA: b\n\r\n"), 400),
    "trailer_of_20_fields": (chunked(b"0\r\n" + b"A: b\r\n" * 20 + END), 200),
    "trailer_of_21_fields": (chunked(b"0\r\n" + b"A: b\r\n" * 21 + END), 400),
    "trailer_of_5000_bytes": (chunked(b"0\r\nA: " + b"b" * 5000 + b"\r\n\r\n"), 400),
    # limits
    "head_at_cap": (head_of(2048), 200),
    "head_beyond_cap": (head_of(2049), 431),
    "fields_at_cap": (num_fields(20), 200),
    "fields_beyond_cap": (num_fields(21), 431),
    "target_at_cap": (target_of(512), 200),
    "target_beyond_cap": (target_of(513), 414),
    "target_without_end": (b"GET /" + b"a" * 4000, 414),
    "method_without_end": (b"G" * 4000, 431),
    "10000_fields": (num_fields(10_000), 431),
    # not HTTP
    "tls_client_hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x5a" * 40, 400),
    "binary": (bytes(range(256)), 400),
    "nul_bytes": (b"\0" * 100, 400),
    "emoji": ("🦆".encode() * 10, 400),
    "json": (b'{"model": "x"}\r\n\r\n', 400),
}


@pytest.mark.parametrize("name", CASES)
def test_status_of_a_raw_request(name: str, run, new_wire, echo) -> None:
    raw, status = CASES[name]

    async def scenario() -> None:
        wire = new_wire(echo, CONFIG)
        wire.send(raw)
        await wire.settle()
        (answer,) = wire.answers(["HEAD" if raw.startswith(b"HEAD") else "GET"])
        assert answer.status == status, answer
        assert answer.is_complete
        assert answer.headers["x-request-id"].startswith("req_")
        assert wire.is_closed == (status != 200 or b"HTTP/1.0" in raw)
        if status != 200:
            assert answer.headers["connection"] == "close"
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}

    run(scenario())


@pytest.mark.parametrize("name", [name for name in CASES if len(CASES[name][0]) < 600])
def test_status_does_not_depend_on_how_tcp_cuts_the_request(name: str, run, new_wire, echo) -> None:
    raw, status = CASES[name]

    async def scenario() -> None:
        wire = new_wire(echo, CONFIG)
        await wire.drip(raw)
        await wire.settle()
        (answer,) = wire.answers(["HEAD" if raw.startswith(b"HEAD") else "GET"])
        assert answer.status == status

    run(scenario())


def test_no_refusal_quotes_what_the_client_sent(run, new_wire, echo) -> None:
    async def scenario(raw: bytes) -> bytes:
        wire = new_wire(echo, CONFIG)
        wire.send(raw)
        await wire.settle()
        return bytes(wire.transport.written)

    secret = b"anz-SECRET"
    for raw in (
        get(fields=b"Authorization : Bearer " + secret + b"\r\n"),
        get(fields=b"A: " + secret + b"\x01\r\n"),
        post(b"Content-Length: " + secret + b"\r\n"),
        chunked(secret + b"\r\n\r\n"),
        host(secret + b" x"),
    ):
        written = run(scenario(raw))
        assert written.startswith(b"HTTP/1.1 400")
        assert b"SECRET" not in written

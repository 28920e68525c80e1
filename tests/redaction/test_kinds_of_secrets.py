# SPDX-License-Identifier: Apache-2.0
"""What must go and what must stay, whatever the shape: a whole exchange goes in, and comes out."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
import xml.etree.ElementTree as ET
from urllib.parse import quote

import pytest

from deetune_otel.model import Protocol
from deetune_otel.recording.codecs.redis import Error
from deetune_otel.recording.model import (
    Connection,
    Endpoint,
    Headers,
    HttpRequest,
    HttpResponse,
    Message,
    RecordedExchange,
    RedisCommand,
    RedisReply,
)
from deetune_otel.redaction.policy import Policy
from deetune_otel.redaction.redactor import Redactor
from deetune_otel.redaction.scan import WARNING, scan
from deetune_otel.redaction.tokens import Tokens

TOKENS = Tokens(b"key")
S = 'hunter/2 &"x" pass'  # to be escaped in every format
P = "Zq27xK9mW036"
JSON, XML, HTML = "application/json", "application/xml", "text/html"
TEXT, YAML, CSV = "text/plain", "application/yaml", "text/csv"
MULTIPART = "multipart/form-data; boundary=b"
PART = "--b\r\nContent-Disposition: form-data; "
FORM = "application/x-www-form-urlencoded"


def exchange(
    request: Message, response: Message | None = None, *, connection: str = "0" * 16
) -> RecordedExchange:
    return RecordedExchange(
        id="00f067aa0ba902b7",
        connection=Connection(
            id=connection,
            protocol=Protocol.HTTP,
            client=Endpoint("10.0.0.1", 40000),
            server=Endpoint("10.0.0.2", 80),
        ),
        request=request,
        response=response,
        request_start_ns=1,
        request_end_ns=2,
    )


def post(body: str | bytes, kind: str, *headers: tuple[str, str]) -> HttpRequest:
    data = body.encode() if isinstance(body, str) else body
    return HttpRequest(
        method="POST", target="/", headers=(("Content-Type", kind), *headers), body=data
    )


def answer(body: str | bytes, kind: str, *headers: tuple[str, str]) -> HttpResponse:
    data = body.encode() if isinstance(body, str) else body
    return HttpResponse(
        status=400, headers=(("Content-Type", kind), *headers), body=data
    )


def redactor() -> Redactor:
    return Redactor(Policy.default(), TOKENS)


def body_of(one: RecordedExchange) -> str:
    assert isinstance(one.request, HttpRequest)
    return one.request.body.decode()


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


SECRETS = [
    # JSON: pairs that are no neighbours
    (JSON, '[{"name":"password","value":"%s"}]'),
    (JSON, '{"value":"%s","type":"x","name":"password"}'),
    (JSON, '{"key":"DB_PASSWORD","optional":false,"n":[1],"value":"%s"}'),
    (JSON, '{"name":"api_key","value":{"stringValue":"%s"}}'),
    (JSON, '{"Name":"Authorization","Value":["%s"]}'),
    (JSON, '{"type":"password","id":"x","value":"%s"}'),
    (JSON, '{"op":"replace","path":"/user/password","value":"%s"}'),
    (JSON, '{"loc":["body","password"],"msg":"too short","input":"%s"}'),
    (JSON, '[["password","%s"],["user","bob"]]'),
    (JSON, '{"h":[ [ "X-Api-Key" , "%s" ] ]}'),
    (JSON, '{"a":"{\\"name\\":\\"password\\",\\"value\\":\\"%s\\"}"}'),
    (JSON, '{"query":"mutation($p:String!){x(p:$p)}","variables":{"password":"%s"}}'),
    (JSON, '{"query":"mutation{login(password:\\"%s\\")}"}'),
    (JSON, '{"log":"login with password=%s failed"}'),
    ("application/x-ndjson", '{"a":1}\n{"name":"password","value":"%s"}\n'),
    # XML and HTML
    (XML, '<a><property name="password" value="%s"/></a>'),
    (XML, '<a><property value="%s" name="password"/></a>'),
    (XML, '<a><add key="ApiKey" x="1" value="%s"/></a>'),
    (XML, '<a><entry key="password">%s</entry></a>'),
    (XML, '<a><data name="password"><value>%s</value></data></a>'),
    (XML, "<a><key>password</key><string>%s</string></a>"),
    (XML, "<a><key>x</key><true/><key>password</key>\n <string>%s</string></a>"),
    (XML, "<m><name>password</name><value><string>%s</string></value></m>"),
    (XML, "<m><value>%s</value><name>password</name></m>"),
    (XML, "<m><name>password</name><type>x</type><value>%s</value></m>"),
    (XML, '<u password="%s"/>'),
    (XML, "<s:E xmlns:s='x'><s:Password Type='t'>%s</s:Password></s:E>"),
    (XML, "<credentials><x>%s</x></credentials>"),
    (XML, "<a><Password><![CDATA[%s]]></Password></a>"),
    (HTML, "<input type=password name=x value='%s'>"),
    (HTML, '<input value="%s" a=1 name=csrf_token>'),
    (HTML, "<input name=password value=%s>"),
    (HTML, "<textarea name=password>%s</textarea>"),
    (HTML, "<div data-x='{&quot;password&quot;:&quot;%s&quot;}'>"),
    (HTML, "<script>var c={password:'%s'}</script>"),
    ("text/javascript", "var c={password:'%s'}"),
    # lines
    (YAML, "password: %s\n"),
    (YAML, "env:\n- name: DB_PASSWORD\n  value: %s\n- name: X\n  value: y\n"),
    (YAML, "env:\n- value: %s\n  name: DB_PASSWORD\n"),
    (YAML, "password: |\n  %s\nuser: x\n"),
    (YAML, "a:\n  password: >-\n    %s\n  user: x\n"),
    (TEXT, "db.password = %s\nuser = x\n"),
    (TEXT, "[db]\npassword=%s\n"),
    (TEXT, "export API_KEY=%s\n"),
    (TEXT, 'at x {\\"password\\":\\"%s\\",\\"a\\":1}'),
    (CSV, "user,password,city\nbob,%s,Rome\n"),
    (CSV, 'user;password;city\r\nbob;"%s";Rome\r\n'),
    ("text/tab-separated-values", "user\tapi_key\nbob\t%s\n"),
    # forms
    (FORM, "user=bob&password=%s"),
    (FORM, "a%%5Bpassword%%5D=%s"),
    (MULTIPART, PART + 'name="password"\r\n\r\n%s\r\n--b--\r\n'),
    (MULTIPART, PART + "name*=utf-8''password\r\n\r\n%s\r\n--b--\r\n"),
    (FORM, "name=password&type=x&value=%s"),
    (FORM, "a%%5Bvalue%%5D=%s&a%%5Bname%%5D=password"),
    (TEXT, "user,password,city\nbob,%s,Rome\n"),
    (TEXT, "set name=password type=x value=%s now"),
    (YAML, "- {name: DB_PASSWORD, value: %s}\n"),
    (XML, '<a><password value="%s"/></a>'),
    (JSON, '{"ParameterKey":"DBPassword","ParameterValue":"%s"}'),
    (JSON, '[{"attributeValue":"%s","attributeName":"password"}]'),
    (TEXT, "mysql --password=%s -u bob"),
    ("text/javascript", 'x["password"] = "%s"'),
    (TEXT, 'password = """%s"""\n'),
    (YAML, "password:\n  %s\nuser: x\n"),
    # URLs in texts
    (TEXT, "see https://example.com/x?a=1&access_token=%s&b=2"),
    (TEXT, "see /cart;jsessionid=%s"),
]


@pytest.mark.parametrize(("kind", "text"), SECRETS)
def test_a_secret_goes_and_the_body_stays_valid(kind: str, text: str) -> None:
    done = redactor().redact(exchange(post(text % P, kind)))
    body = body_of(done)
    assert body == (text % P).replace(P, TOKENS.token(P.encode()))
    assert done.redactions == ("name",)
    if kind == JSON:
        json.loads(body)
    if kind == XML:
        ET.fromstring(body)
    raw = exchange(post(text % P, kind))
    assert any(one.rule == "name" for one in scan(raw))
    assert scan(done) == []


TARGETS = [
    "/shop;jsessionid=%s",
    "/shop;jsessionid=%s/items;a=1",
    "/shop;a=1;TOKEN=%s?x=1",
    "/shop%%3Bjsessionid=%s",
    "/shop%%3bjsessionid%%3D%s",
    "/x/password=%s/y",
    "/x?key=%s0123456",
    "/x#access_token=%s",
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("where", ["target", "Referer", "Location", "operation"])
def test_a_secret_of_a_url_goes(target: str, where: str) -> None:
    if where == "operation" and ("?" in target or "#" in target):
        pytest.skip("an operation is a path")
    headers: Headers = ((where, "https://a" + target % P),)
    one = exchange(
        HttpRequest(
            method="GET",
            target=target % P if where == "target" else "/",
            headers=headers if where == "Referer" else (),
        ),
        HttpResponse(status=302, headers=headers if where == "Location" else ()),
    )
    if where == "operation":
        object.__setattr__(one, "operation", "GET " + target % P)
    assert P not in repr(redactor().redact(one))
    assert scan(one)


ECHOES = [
    *[(TEXT, "no such key: {}", str), (TEXT, "'{}'", str), (TEXT, "%27{}%27", quote)],
    (JSON, '{{"error":"bad key {}"}}', lambda s: json.dumps(s)[1:-1]),
    (JSON, '{{"{}":1}}', lambda s: json.dumps(s)[1:-1]),
    (HTML, "<p>bad key {}</p>", html.escape),
    (TEXT, "bad key {}", lambda s: re.sub("%..", lambda h: h[0].lower(), quote(s))),
    (TEXT, "bad key {}", lambda s: quote(s, safe="")),
    (FORM, "error={}", lambda s: quote(s, safe="")),
    (TEXT, "bad key {}", b64),
    (TEXT, "bad key {}", lambda s: base64.urlsafe_b64encode(s.encode()).decode()),
    (TEXT, "bad key {}", lambda s: b64(f"the key {s} is bad")),
]
ASKED = [
    post(json.dumps({"password": S}), JSON),
    post("password=" + quote(S, safe=""), FORM),
    post("", TEXT, ("X-Api-Key", S)),
    post("", TEXT, ("Cookie", "sid=" + quote(S, safe=""))),
    post("", TEXT, ("Authorization", "Bearer " + S)),
    post("", TEXT, ("Authorization", "Basic " + b64("bob:" + S))),
    HttpRequest(method="GET", target="/?token=" + quote(S, safe="")),
]


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize(("kind", "text", "written"), ECHOES)
def test_an_answer_does_not_echo_what_was_redacted(
    asked: HttpRequest, kind: str, text: str, written: object
) -> None:
    assert callable(written)
    body = text.format(written(S))
    once = exchange(asked, answer(body, kind))
    ours = redactor()
    done = ours.redact(once)
    assert isinstance(done.response, HttpResponse)
    assert written(S) not in done.response.body.decode()
    assert "redacted-" in done.response.body.decode()
    packed = answer(gzip.compress(body.encode()), kind, ("Content-Encoding", "gzip"))
    later = ours.redact(exchange(HttpRequest(method="GET", target="/"), packed))
    assert isinstance(later.response, HttpResponse)
    assert written(S) not in gzip.decompress(later.response.body).decode()
    other = exchange(
        HttpRequest(method="GET", target="/"), answer(body, kind), connection="1" * 16
    )
    assert scan(once)
    assert ours.redact(other).response is not None


def test_a_secret_is_one_in_the_whole_message_and_has_one_token() -> None:
    body = json.dumps({"hint": f"it is {P}", "password": P})
    asked = HttpRequest(
        method="POST",
        target=f"/{P}/x",
        headers=(("Content-Type", JSON),),
        body=body.encode(),
    )
    done = redactor().redact(exchange(asked, HttpResponse(status=400, reason=P)))
    token = TOKENS.token(P.encode())
    assert isinstance(done.request, HttpRequest)
    assert isinstance(done.response, HttpResponse)
    assert done.request.target == f"/{token}/x"
    assert done.request.body.decode() == body.replace(P, token)
    assert done.response.reason == token


BLOBS = [b64(f"bob:{P}"), b64(json.dumps({"password": P})), b64(b64(f"password={P}")),
         b64("a@example.com"), b64(f"a=1&token={P}")]  # fmt: skip


@pytest.mark.parametrize("blob", BLOBS)
@pytest.mark.parametrize(
    ("kind", "text"),
    [(JSON, '{"a":"%s"}'), (TEXT, "see %s here"), (FORM, "a=%s"), (XML, "<a>%s</a>")],
)
def test_base64_of_a_secret_goes(kind: str, text: str, blob: str) -> None:
    body = text % quote(blob) if kind == FORM else text % blob
    done = body_of(redactor().redact(exchange(post(body, kind))))
    assert done == text % TOKENS.token(blob.encode())


HARMLESS = [
    (JSON, '{"token_type":"bearer","expires_in":3600,"scope":"read write"}'),
    (JSON, '{"password_reset_required":true,"passwordMinLength":8,"password":null}'),
    (JSON, '{"required":["password","email"],"properties":{"a":{"type":"string"}}}'),
    (JSON, '[{"field":"password","message":"is required"}]'),
    (JSON, '[{"name":"Mug","value":"red"},{"key":"color","value":"blue"}]'),
    (JSON, '[["a","b"],["city","Rome"]]'),
    (JSON, '{"id":"3f2504e0-4f89-41d3-9a0c-0305e82c3301","price":"12.50","n":1234567}'),
    (JSON, '{"sha":"d41d8cd98f00b204e9800998ecf8427e","at":"2026-11-24T12:30:17Z"}'),
    (JSON, json.dumps({"cursor": b64('{"id":5,"at":"2026-11-24"}'), "more": True})),
    (JSON, json.dumps({"id": b64("User:123"), "next": b64("arrayconnection:5")})),
    (JSON, json.dumps({"id": b64("gid:3f2504e0-4f89-41d3-9a0c-0305e82c3301")})),
    (JSON, '{"title":"Choosing a good password","tags":["token","key"]}'),
    (JSON, '{"url":"/orders?page=2&key=name&sort=asc","path":"/a/b","key":"a-b"}'),
    ("text/css", ".password{color:red} #token:hover{content:'secret: x'}"),
    (
        "text/javascript",
        "var a={password:e.password,token:t};label={password:'Password'}",
    ),
    (
        HTML,
        "<form id=password><label for=password>Password</label><p>Forgot it?</p></form>",
    ),
    (HTML, '<div class="token"><a href="/password/reset">reset password</a></div>'),
    (
        HTML,
        "<input type=text name=city value=Rome><button name=reset_password>Go</button>",
    ),
    (XML, "<a><key>color</key><string>red</string><name>x</name><value>y</value></a>"),
    (YAML, "password:\n  min_length: 8\n  max: 20\n"),
    (YAML, "- name: LANG\n  value: en\n- name: MODE\n  value: fast\n"),
    (CSV, "id,price,city\n1,12.50,Rome\n2,9.99,Oslo\n"),
    (TEXT, "enter your name, password\nand go on, please, now\n"),
    (FORM, "name=color&value=red&x=password"),
    (TEXT, "set name=color value=red"),
    (TEXT, "GET /orders/12345 200 12ms trace=00f067aa0ba902b7"),
    (FORM, "user=bob&city=Rome&page=2&sort=price"),
]


@pytest.mark.parametrize(("kind", "text"), HARMLESS)
def test_what_is_harmless_stays(kind: str, text: str) -> None:
    one = exchange(post(text, kind))
    assert body_of(redactor().redact(one)) == text
    assert [found for found in scan(one) if found.rule != WARNING] == []


def test_short_and_common_values_are_no_echoes() -> None:
    asked = post(
        '{"pin":"1234","mobile":"x"}', JSON, ("X-Env", "prod"), ("X-Is", "true")
    )
    body = '{"count":1234,"env":"prod","is":true,"x":"x"}'
    done = redactor().redact(exchange(asked, answer(body, JSON))).response
    assert isinstance(done, HttpResponse)
    assert done.body.decode() == body


@pytest.mark.parametrize(
    ("command", "policy"),
    [
        *[(f"AUTH {P}", "scan"), (f"AUTH bob {P}", "scan"), (f"AUHT {P}", "replace")],
        *[(f"HELLO 3 AUTH bob {P}", "scan"), (f"ACL SETUSER bob on >{P}", "scan")],
        *[
            (f"CONFIG SET requirepass {P}", "scan"),
            (f"config set masterauth {P}", "scan"),
        ],
        *[
            (f"MIGRATE h 6379 k 0 100 AUTH {P}", "scan"),
            (f"SET u:password {P}", "scan"),
        ],
        *[(f"MIGRATE h 6379 k 0 9 AUTH2 bob {P} KEYS k", "scan")],
        *[
            (f"HSET u:1 name bob password {P}", "scan"),
            (f"HSETNX u password {P}", "scan"),
        ],
        *[(f"MSET a b api_key {P}", "scan"), (f"SETEX session_token 60 {P}", "scan")],
        *[(f"EVAL x 0 {P}", "replace"), (f"SENTINEL SET m auth-pass {P}", "replace")],
    ],
)
def test_secrets_of_redis_go(command: str, policy: str) -> None:
    ours = Redactor(Policy(redis_values=policy), TOKENS)  # type: ignore[arg-type]
    asked = RedisCommand(arguments=tuple(command.encode().split()))
    for text in (
        f"ERR unknown command 'AUHT', with args beginning with: '{P}' ",
        f"WRONGPASS invalid password {P}",
    ):
        reply = RedisReply(value=Error(text))
        done = repr(ours.redact(exchange(asked, reply)))
        assert P not in done
        assert "WRONGPASS" in done or "unknown command" in done


@pytest.mark.parametrize(
    ("command", "value"),
    [
        ("GET u:password", P.encode()),
        ("HGET u password", P.encode()),
        ("HGETALL u", [b"name", b"bob", b"password", P.encode()]),
        ("HGETALL u", {b"name": b"bob", b"password": P.encode()}),
    ],
)
def test_replies_of_secret_names_go_if_values_are_kept(
    command: str, value: object
) -> None:
    ours = Redactor(Policy(redis_values="scan"), TOKENS)
    asked = RedisCommand(arguments=tuple(command.encode().split()))
    done = repr(ours.redact(exchange(asked, RedisReply(value=value))))
    assert P not in done
    assert ("bob" in done) is ("bob" in repr(value))

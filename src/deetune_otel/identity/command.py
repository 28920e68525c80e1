# SPDX-License-Identifier: Apache-2.0
"""A command line -> what a person would call the program. Pure.

The executable says little when it is an interpreter: there the script, the module, the
jar or the application that a server runs is the name. Every interpreter is one row of
`_INTERPRETERS` (how to find the script among the options), every program whose
*argument* is the application one row of `_LAUNCHERS`, every way to write a title over
the arguments (nginx, postgres, gunicorn) one row of `_TITLES`.

A name that many programs share (`main`, `app`, `server`, `manage`) gives way to
the directory it lives in, as long as that is not such a name too.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["CommandName", "name_command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandName:
    """A program's name and where it came from."""

    name: str  # as found; "" when nothing at all is known
    found_by: str  # "script", "module", "app", "jar", "class", "title", "executable"
    command: str  # the program and what it runs; no other argument: they hold secrets
    is_bare_interpreter: bool = False  # "python3", and nothing about what it runs
    is_helper: bool = False  # started by its parent's runtime to work for it


@dataclass(frozen=True, slots=True)
class _Context:
    arguments: Sequence[str]
    directory: str  # the working directory, "" when not known


@dataclass(frozen=True, slots=True)
class _Found:
    name: str
    by: str
    shown: str = ""  # what stands behind the program in process.command
    is_helper: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Syntax:
    """How an interpreter's options end and its script begins."""

    with_value: str = ""  # letters whose value is the rest of the word or the next one
    attached: str = ""  # letters whose value can only be the rest of the word
    code: str = ""  # letters after which a program stands, in place of a script
    module: str = ""  # letters after which a module's name stands
    long_with_value: frozenset[str] = frozenset()
    long_code: frozenset[str] = frozenset()
    commands: frozenset[str] = frozenset()  # words to pass over: `deno run x.ts`


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_EXTENSIONS: Final = _words(
    ".py .pyc .pyw .pyz .zip .js .mjs .cjs .ts .mts .jsx .tsx .rb .ru .pl .psgi "
    ".php .phar .sh .bash .zsh .lua .tcl .r .jl .ex .exs .dll .exe .jar .war .ini "
    ".yml .yaml .toml"
)
_SHARED_NAMES: Final = _words(
    "__main__ __init__ app application asgi bootstrap index launcher main manage "
    "run server start wsgi celery tasks config settings core"
)
_SHARED_DIRECTORIES: Final = _SHARED_NAMES | _words(
    "bin build code current dist home lib lib64 libexec local opt out public "
    "releases root sbin scripts site-packages node_modules src srv tmp usr var "
    "www html web workspace data mnt target release debug"
)
_PYTHON: Final = _Syntax(
    with_value="WXQ",
    code="c",
    module="m",
    long_with_value=frozenset({"--check-hash-based-pycs"}),
)
_NODE: Final = _Syntax(
    with_value="rC",
    code="ep",
    long_with_value=_words(
        "--require --import --loader --experimental-loader --conditions --title "
        "--env-file --icu-data-dir --openssl-config --inspect-port --input-type"
    ),
    long_code=frozenset({"--eval", "--print"}),
)
_SCRIPT_RUNNER: Final = _Syntax(
    with_value="rc",
    long_with_value=frozenset({"--config", "--import", "--project", "--watch"}),
    commands=frozenset({"run", "dev", "exec", "watch", "serve"}),
)
_INTERPRETERS: Final[tuple[tuple[re.Pattern[str], _Syntax], ...]] = (
    (re.compile(r"(python|pypy|jython)[0-9.]*[a-z]*"), _PYTHON),
    (re.compile(r"node(js)?[0-9.]*"), _NODE),
    (re.compile(r"(deno|bun)"), _SCRIPT_RUNNER),
    (re.compile(r"(ruby|jruby|truffleruby)[0-9.]*"), _Syntax(with_value="rICE", attached="KTWx", code="e")),
    (re.compile(r"perl[0-9.]*"), _Syntax(with_value="I", attached="MmiFxCDl0", code="eE")),
    (re.compile(r"php(-cli)?[0-9.]*"), _Syntax(with_value="dctz", code="rBRSE")),
    (re.compile(r"(ba|da|z|k|mk|a)?sh|fish"), _Syntax(with_value="oO", code="c")),
    (re.compile(r"lua(jit)?[0-9.]*"), _Syntax(with_value="l", code="e")),
    (re.compile(r"(tclsh|wish|expect)[0-9.]*"), _Syntax(code="c")),
    (re.compile(r"julia"), _Syntax(with_value="LJtp", code="eE")),
    (re.compile(r"mono(-sgen)?|dotnet"), _Syntax(commands=frozenset({"exec"}))),
    (re.compile(r"ld-(linux|musl).*|ld\.so"), _Syntax(long_with_value=frozenset({"--library-path", "--preload", "--argv0"}))),
)  # fmt: skip
_JAVA: Final = re.compile(r"java|javaw|jsvc(\.exec)?")
_JAVA_WITH_VALUE: Final = _words(
    "-cp -classpath --class-path -p --module-path --add-modules --add-reads "
    "--add-exports --add-opens --limit-modules --upgrade-module-path --source"
)
_JAVA_NAME_PROPERTIES: Final = ("-Dotel.service.name=", "-Dspring.application.name=")
# Main classes of servers that nobody calls by their main class.
_JAVA_SERVERS: Final = {
    "org.apache.catalina.startup.Bootstrap": "tomcat",
    "org.apache.cassandra.service.CassandraDaemon": "cassandra",
    "org.apache.zookeeper.server.quorum.QuorumPeerMain": "zookeeper",
    "org.apache.zookeeper.server.ZooKeeperServerMain": "zookeeper",
    "org.elasticsearch.bootstrap.Elasticsearch": "elasticsearch",
    "org.elasticsearch.server/org.elasticsearch.bootstrap.Elasticsearch": "elasticsearch",
    "org.opensearch.bootstrap.OpenSearch": "opensearch",
    "kafka.Kafka": "kafka",
    "org.eclipse.jetty.start.Main": "jetty",
    "org.eclipse.jetty.xml.XmlConfiguration": "jetty",
}  # fmt: skip
# shop-1.2.3-SNAPSHOT.jar: a new version is still the same service.
_JAR_VERSION: Final = re.compile(
    r"[-_.]v?[0-9]+(\.[0-9A-Za-z]+)*([-.+_](SNAPSHOT|RELEASE|FINAL|GA|RC\d*|M\d+|"
    r"[0-9]+|[0-9a-f]{7,40}))*(?=$|-)|-(all|fat|uber|exec|boot|runner|shaded|"
    r"standalone|jar-with-dependencies)$",
    re.IGNORECASE,
)
_HELPER_CODE: Final = re.compile(
    r"from (multiprocessing|billiard|joblib|loky)[\w.]* import|import multiprocessing"
)
_HELPER_MODULE: Final = re.compile(r"(joblib|loky|billiard|multiprocessing)\..*")
_CALLABLE: Final = re.compile(
    r"(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):[A-Za-z_][\w.]*(\(.*\))?"
)
_MODULE: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
# Options of the Python servers whose value can look like an application.
_NOT_AN_APP_AFTER: Final = _words(
    "-c --config -k --worker-class -b --bind --host -h --log-config "
    "--logger-class --loop --http --ws --lifespan --interface --log-level -u --user -g "
    "--group --chdir --app-dir --env-file --reload-dir -e --env -p --pid --port"
)


def name_command(
    arguments: Sequence[str],
    *,
    executable: str = "",
    working_directory: str = "",
    comm: str = "",
) -> CommandName:
    """The best name that the command line gives; never raises, "" only for nothing."""
    executable = executable.removesuffix(" (deleted)")
    arguments = [argument for argument in arguments if argument.strip()]
    program = _program(arguments, executable)
    context = _Context(arguments, working_directory.removesuffix(" (deleted)"))
    shown = _shown(arguments, executable) or program
    found = (
        _by_title(context, executable)
        or _by_program(context, program)
        or _by_interpreter(context, program)
    )
    if found:
        return CommandName(
            name=found.name,
            found_by=found.by,
            command=f"{shown} {found.shown}".rstrip(),
            is_bare_interpreter=found.is_helper,
            is_helper=found.is_helper,
        )
    if not program:
        return CommandName(name=comm, found_by="comm", command=comm)
    is_interpreter = _is_interpreter(program)
    path = executable if _base(executable) == program else program
    return CommandName(
        name=program if is_interpreter else _name_of_path(path, ""),
        found_by="executable",
        command=shown,
        is_bare_interpreter=is_interpreter,
    )


def _program(arguments: Sequence[str], executable: str) -> str:
    """The file name of what runs.

    It is argv[0]'s where the executable has many names (busybox) or is an interpreter
    under another name (`exec -a orders python3 ...`): its words are not python's then.
    """
    name = _base(executable)
    if not arguments or _is_title_text(arguments[0]):
        return name
    called = _base(arguments[0].removeprefix("-"))
    if name in {"", "busybox", "toybox"} or executable.startswith("/memfd:"):
        return called or name
    return called if called and _is_renamed(name, called) else name


def _is_renamed(name: str, called: str) -> bool:
    return _is_interpreter(name) and not _is_interpreter(called)


def _shown(arguments: Sequence[str], executable: str) -> str:
    """argv[0]; of a title only its first word, for more of it may be arguments."""
    if not arguments:
        return ""
    first = arguments[0]
    return first if first == executable else first.split()[0].rstrip(":")


def _is_interpreter(program: str) -> bool:
    return bool(_JAVA.fullmatch(program)) or _syntax(program) is not None


def _syntax(program: str) -> _Syntax | None:
    return next((row for name, row in _INTERPRETERS if name.fullmatch(program)), None)


# ── titles ───────────────────────────────────────────────────────────────────────────


def _is_title_text(text: str) -> bool:
    return " " in text or text.endswith(":")


def _by_title(context: _Context, executable: str) -> _Found | None:
    """The name that a program wrote over its own arguments."""
    if not context.arguments or context.arguments[0] == executable:
        return None
    title = context.arguments[0]
    for pattern, reading in _TITLES:
        if match := pattern.match(title):
            name = reading(match, context)
            return _Found(name, "title") if name else None
    if len(context.arguments) > 1:
        return None  # an ordinary argv[0]
    return _by_free_title(title, context.directory)


def _by_free_title(title: str, directory: str) -> _Found | None:
    """A title that no known program writes: a command line in one string, or words."""
    if _is_title_text(title):
        words = title.split()
        first = _base(words[0])
        context = _Context(words, directory)
        if _is_interpreter(first) or first in _LAUNCHERS:  # "node /srv/shop/app.js"
            return _by_program(context, first) or _by_interpreter(context, first)
        name = first.rstrip(":")
        return _Found(name, "title") if name else None
    return None


def _title_app(match: re.Match[str], context: _Context) -> str:
    app = match["app"].strip()
    target = _CALLABLE.fullmatch(app)
    if target or "." in app:
        return _name_of_module(target["module"] if target else app, context.directory)
    return app


def _title_celery(match: re.Match[str], context: _Context) -> str:
    words = match.string.replace("(", " ").replace(")", " ").split()
    return _app_option(words, context) or "celery"


def _title_pool(match: re.Match[str], _context: _Context) -> str:
    """A pool is an application of its own, but for the one that everybody has."""
    pool = match["pool"].strip()
    return "php-fpm" if pool == "www" else pool


def _title_path(match: re.Match[str], _context: _Context) -> str:
    return _name_of_directory(match["path"])


def _title_project(_match: re.Match[str], context: _Context) -> str:
    return _name_of_directory(context.directory)


def _title_name(match: re.Match[str], _context: _Context) -> str:
    return match["name"]


_TITLES: Final[
    tuple[tuple[re.Pattern[str], Callable[[re.Match[str], _Context], str]], ...]
] = (
    (re.compile(r"gunicorn: \w+ \[(?P<app>[^\]]+)\]"), _title_app),
    (re.compile(r"\[celeryd?[:@ ]"), _title_celery),
    (re.compile(r"php-fpm[0-9.]*: pool (?P<pool>\S+)"), _title_pool),
    (re.compile(r"(?P<name>php-fpm)[0-9.]*: "), _title_name),
    (re.compile(r"puma(?=[: ]).*\[(?P<name>[^\[\]]+)\]$"), _title_name),
    (re.compile(r"sidekiq [0-9.]+ (?P<name>[^\s\[]+)"), _title_name),
    (re.compile(r"\(wsgi:(?P<name>[^)]+)\)"), _title_name),
    (re.compile(r"Passenger \w+: (?P<path>/\S+)"), _title_path),
    (re.compile(r"unicorn(_rails)? (master|worker)"), _title_project),
    (re.compile(r"(next-server|npm (run|start|exec)|yarn|pnpm)\b"), _title_project),
    (re.compile(r"PM2 (?P<name>)v"), lambda _match, _context: "pm2"),
    (re.compile(r"(?P<name>[A-Za-z][\w.+@-]*): "), _title_name),  # "nginx: worker process"
)  # fmt: skip


# ── programs that say what they run in a way of their own ────────────────────────────


def _by_program(context: _Context, program: str) -> _Found | None:
    if program in _LAUNCHERS:
        name = _LAUNCHERS[program](context.arguments[1:], context)
        return _Found(name, "app") if name else None
    for pattern, reading in _PROGRAMS:
        if pattern.fullmatch(program):
            return reading(context.arguments[1:], context)
    return None


def _java(arguments: Sequence[str], context: _Context) -> _Found | None:
    for name in _JAVA_NAME_PROPERTIES:
        for argument in arguments:
            if argument.startswith(name):
                return _Found(argument.removeprefix(name), "app")
    kind, word = _java_start(arguments)
    if not word:
        return None
    if kind == "jar":
        return _Found(_name_of_jar(word), "jar", f"-jar {word}")
    name = _JAVA_SERVERS.get(word) or re.split(r"[./$]", word.rstrip("./$"))[-1]
    if name.endswith("Launcher") and "springframework" in word:
        name = _name_of_directory(context.directory) or name
    return _Found(name, "class", word) if name else None


def _java_start(arguments: Sequence[str]) -> tuple[str, str]:
    """`-jar x.jar`, `-m module/class`, or the first word that is no option."""
    words = iter(arguments)
    for word in words:
        if word == "-jar":
            return "jar", next(words, "")
        if word in {"-m", "--module"}:
            return "class", next(words, "")
        if word in _JAVA_WITH_VALUE:
            next(words, "")
        elif not word.startswith(("-", "@")):
            return "class", word
    return "", ""


def _php_fpm(_arguments: Sequence[str], _context: _Context) -> _Found | None:
    return _Found("php-fpm", "executable")  # without Debian's version


def _php_server(arguments: Sequence[str], context: _Context) -> _Found | None:
    """`php -S 0.0.0.0:8000 -t shop/public`: what is served is the project."""
    if "-S" not in arguments:
        return None
    root = posixpath.join(context.directory, _value_of(arguments, ("-t",)))
    name = _name_of_directory(root)
    return _Found(name, "script") if name else None


def _erlang(arguments: Sequence[str], _context: _Context) -> _Found | None:
    """RabbitMQ, Elixir's releases: the node's name, without its host."""
    node = _value_of(arguments, ("-sname", "-name")).partition("@")[0]
    return _Found(node, "app") if node else None


def _r(arguments: Sequence[str], context: _Context) -> _Found | None:
    script = _value_of(arguments, ("--file",))
    return _script_found(script, context) if script else None


_PROGRAMS: Final[
    tuple[
        tuple[re.Pattern[str], Callable[[Sequence[str], _Context], _Found | None]],
        ...,
    ]
] = (
    (_JAVA, _java),
    (re.compile(r"php-fpm[0-9.]*"), _php_fpm),
    (re.compile(r"php(-cli)?[0-9.]*"), _php_server),
    (re.compile(r"beam\.smp"), _erlang),
    (re.compile(r"R(script)?"), _r),
)


def _name_of_jar(path: str) -> str:
    stem = _stem(_base(path))
    shorter = _JAR_VERSION.sub("", stem)
    return _name_of_path(posixpath.join(posixpath.dirname(path), shorter or stem), "")


# ── interpreters ─────────────────────────────────────────────────────────────────────


def _by_interpreter(context: _Context, program: str) -> _Found | None:
    syntax = _syntax(program)
    if syntax is None:
        return None
    kind, index, value = _find_script(context.arguments, syntax)
    if kind == "module":
        return _by_module(value, index, context)
    if kind == "code":
        is_helper = syntax is _PYTHON and bool(_HELPER_CODE.match(value))
        return _Found(program, "executable", is_helper=True) if is_helper else None
    if kind == "script":
        return _by_script(value, index, context)
    return None


def _find_script(arguments: Sequence[str], syntax: _Syntax) -> tuple[str, int, str]:
    """("script", "module", "code" or "", where the rest begins, the word itself)."""
    index = 1
    while index < len(arguments):
        word = arguments[index]
        following = arguments[index + 1] if index + 1 < len(arguments) else ""
        if word == "--":
            return ("script" if following else ""), index + 2, following
        if word.startswith("--"):
            if word in syntax.long_code:
                return "code", index + 2, following
            index += 2 if word in syntax.long_with_value else 1
        elif word.startswith(("-", "+")):
            if word == "-":
                return "", index, ""
            kind, value, takes_next = _read_letters(word[1:], syntax)
            if kind:
                return kind, index + 1 + takes_next, following if takes_next else value
            index += 1 + takes_next
        elif word in syntax.commands:
            index += 1
        else:
            return "script", index + 1, word
    return "", index, ""


def _read_letters(letters: str, syntax: _Syntax) -> tuple[str, str, bool]:
    """(kind, value, whether the value is the next word) of one `-abc`."""
    for position, letter in enumerate(letters, start=1):
        value = letters[position:]
        if letter in syntax.code:
            return "code", value, not value
        if letter in syntax.module:
            return "module", value, not value
        if letter in syntax.with_value:
            return "", value, not value
        if letter in syntax.attached:
            return "", value, False
    return "", "", False


def _by_module(module: str, index: int, context: _Context) -> _Found | None:
    if not module:
        return None
    shown = f"-m {module}"
    if _HELPER_MODULE.fullmatch(module):
        return _Found(module, "module", shown, is_helper=True)
    launcher = module.removesuffix(".__main__").split(".", maxsplit=1)[0]
    if launcher in _LAUNCHERS:
        name = _LAUNCHERS[launcher](context.arguments[index:], context)
        return _Found(name or launcher, "app" if name else "module", shown)
    return _Found(module.removesuffix(".__main__"), "module", shown)


def _by_script(script: str, index: int, context: _Context) -> _Found | None:
    launcher = _stem(_base(script))
    if launcher in _LAUNCHERS:
        name = _LAUNCHERS[launcher](context.arguments[index:], context)
        return _Found(name or launcher, "app" if name else "script", script)
    return _script_found(script, context)


def _script_found(script: str, context: _Context) -> _Found | None:
    name = _name_of_path(script, context.directory)
    return _Found(name, "script", script) if name else None


# ── programs whose argument is the application ───────────────────────────────────────


def _python_server(rest: Sequence[str], context: _Context) -> str:
    """`gunicorn shop.wsgi:app`, whatever options stand around it."""
    if name := _value_of(rest, ("-n", "--name", "--proc-name")):
        return name
    directory = _value_of(rest, ("--chdir", "--app-dir")) or ""
    directory = posixpath.join(context.directory, directory)
    words = [
        word
        for before, word in zip(["", *rest], rest, strict=False)
        if before not in _NOT_AN_APP_AFTER and not word.startswith("-")
    ]
    for word in words:
        if target := _CALLABLE.fullmatch(word):
            return _name_of_module(target["module"], directory)
    for word in words:
        if _MODULE.fullmatch(word) and "." in word:
            return _name_of_module(word, directory)
    return _name_of_module(words[-1], directory) if _only_module(words) else ""


def _only_module(words: Sequence[str]) -> bool:
    return len(words) == 1 and bool(_MODULE.fullmatch(words[0]))


def _app_option(rest: Sequence[str], context: _Context) -> str:
    """`celery -A shop worker`, `flask --app shop:create_app run`."""
    app = _value_of(rest, ("-A", "--app")).partition(":")[0]
    if app.endswith(".py") or "/" in app:
        return _name_of_path(app, context.directory)
    return _name_of_module(app, context.directory) if app else ""


def _flask(rest: Sequence[str], context: _Context) -> str:
    return _app_option(rest, context) or _name_of_directory(context.directory)


def _script_runner(rest: Sequence[str], context: _Context) -> str:
    """`streamlit run shop.py`, `ts-node src/shop.ts`."""
    kind, _, script = _find_script(["", *rest], _SCRIPT_RUNNER)
    return _name_of_path(script, context.directory) if kind == "script" else ""


def _uwsgi(rest: Sequence[str], context: _Context) -> str:
    if module := _value_of(rest, ("--module", "-w", "--wsgi", "--mount")):
        return _name_of_module(module.partition(":")[0], context.directory)
    files = ("--wsgi-file", "--file", "--ini", "-i", "--yaml", "-y", "--json", "--xml")
    path = _value_of(rest, files) or next(
        (word for word in rest if word.endswith((".ini", ".yml", ".yaml"))), ""
    )
    return _name_of_path(path, context.directory) if path else ""


def _project(_rest: Sequence[str], context: _Context) -> str:
    return _name_of_directory(context.directory)


_LAUNCHERS: Final[dict[str, Callable[[Sequence[str], _Context], str]]] = {
    **dict.fromkeys(("gunicorn", "uvicorn", "hypercorn", "daphne", "granian", "waitress-serve", "waitress"), _python_server),
    "celery": _app_option,
    "flask": _flask,
    "uwsgi": _uwsgi,
    **dict.fromkeys(("streamlit", "fastapi", "ts-node", "ts-node-dev", "tsx", "nodemon", "coverage"), _script_runner),
    **dict.fromkeys(("puma", "rackup", "rails", "unicorn", "thin", "passenger", "artisan", "npm", "npm-cli", "npx-cli", "yarn", "pnpm", "next", "nest", "vite", "nuxt"), _project),
}  # fmt: skip


# ── words and paths ──────────────────────────────────────────────────────────────────


def _value_of(arguments: Sequence[str], options: Sequence[str]) -> str:
    """The value of the first of these options: `-x v`, `--xx v` or `--xx=v`."""
    for index, word in enumerate(arguments):
        option, equals, value = word.partition("=")
        if option in options:
            if equals:
                return value
            return arguments[index + 1] if index + 1 < len(arguments) else ""
    return ""


def _name_of_module(module: str, directory: str) -> str:
    """`shop.wsgi` -> shop; a module with no name of its own is its project's."""
    parts = module.split(".")
    while parts and parts[-1] in _SHARED_NAMES:
        parts.pop()
    return ".".join(parts) or _name_of_directory(directory) or module


def _name_of_path(path: str, directory: str) -> str:
    """`/srv/shop.py` -> shop, `/srv/shop/manage.py` -> shop, `/srv/shop/` -> shop."""
    path = posixpath.normpath(posixpath.join(directory, path))
    stem = _stem(_base(path))
    if stem not in _SHARED_NAMES:
        return stem
    return _name_of_directory(posixpath.dirname(path)) or stem


def _name_of_directory(directory: str) -> str:
    """The nearest directory, upwards, that is named for what is in it; else ""."""
    path = posixpath.normpath(directory) if directory else ""
    while path.strip("/"):
        parent, name = posixpath.split(path)
        if parent in {"/home", "/Users"}:
            return ""  # a person's name is not a service's
        if name not in _SHARED_DIRECTORIES and not re.fullmatch(r"[.\d_-]+", name):
            return name
        path = parent
    return ""


def _base(path: str) -> str:
    return posixpath.basename(path.rstrip("/"))


def _stem(name: str) -> str:
    stem, extension = posixpath.splitext(name)
    return stem if stem and extension.lower() in _EXTENSIONS else name

# SPDX-License-Identifier: Apache-2.0
"""Real command lines and what a person calls the program.

A line is written as in `ps`; a title (one argument that holds spaces) begins with `=`.
"""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deetune_otel.identity.command import CommandName, name_command

PYTHON = "/usr/bin/python3.11"
NODE = "/usr/bin/node"
JAVA = "/usr/lib/jvm/java-17-openjdk-amd64/bin/java"
RUBY = "/usr/bin/ruby3.1"
PHP = "/usr/bin/php8.2"
CWD = "/srv/shop"

# executable, command line, name
CASES = [
    # Python
    (PYTHON, "python3 orders.py", "orders"),
    (PYTHON, "python3 -u -X dev -W ignore /opt/jobs/import_orders.py --token s3cret", "import_orders"),
    (PYTHON, "python3 -m pkg.mod --x", "pkg.mod"),
    (PYTHON, "python3 -Im pkg.mod", "pkg.mod"),
    (PYTHON, "python3 -um pkg.mod", "pkg.mod"),
    (PYTHON, "python3 -mpkg.mod", "pkg.mod"),
    (PYTHON, "python3 -m pkg.__main__", "pkg"),
    (PYTHON, "python3 -m http.server 8000", "http.server"),
    (PYTHON, "python3 manage.py runserver 0.0.0.0:8000", "shop"),
    (PYTHON, "python3 /srv/billing/manage.py runserver", "billing"),
    (PYTHON, "python3 /srv/billing/src/main.py", "billing"),
    (PYTHON, "python3 app.py", "shop"),
    (PYTHON, "python3 /home/alice/app.py", "app"),
    (PYTHON, "python3 /app/main.py", "main"),
    (PYTHON, "python3 billing/", "billing"),
    (PYTHON, "python3 orders.pyz", "orders"),
    (PYTHON, "python3 -- -odd.py", "-odd"),
    (PYTHON, "/usr/bin/python3 /usr/bin/supervisord -n", "supervisord"),
    ("/usr/local/bin/pypy3.10", "pypy3 orders.py", "orders"),
    (f"{PYTHON} (deleted)", "python3 orders.py", "orders"),
    # Python's servers
    (PYTHON, "python3 /venv/bin/gunicorn shop.wsgi:app", "shop"),
    (PYTHON, "python3 /venv/bin/gunicorn -b localhost:8000 -k uvicorn.workers.UvicornWorker --reload shop.wsgi:app -w 4", "shop"),
    (PYTHON, "python3 /venv/bin/gunicorn -c python:conf.prod billing.web.wsgi", "billing.web"),
    (PYTHON, "python3 /venv/bin/gunicorn --chdir /srv/billing app:app", "billing"),
    (PYTHON, "python3 /venv/bin/gunicorn 'shop.factory:create_app()'", "shop.factory"),
    (PYTHON, "python3 /venv/bin/gunicorn --name shop-web main:app", "shop-web"),
    (PYTHON, "python3 /venv/bin/gunicorn --bind=unix:/run/x.sock shop.wsgi", "shop"),
    (PYTHON, "python3 -m uvicorn main:app --host 0.0.0.0", "shop"),
    (PYTHON, "python3 /venv/bin/uvicorn orders.api.main:app --port 80", "orders.api"),
    (PYTHON, "python3 /venv/bin/hypercorn orders:app", "orders"),
    (PYTHON, "python3 /venv/bin/daphne -p 8001 orders.asgi:application", "orders"),
    (PYTHON, "python3 /venv/bin/celery -A orders worker -l info", "orders"),
    (PYTHON, "python3 /venv/bin/celery --app=orders.tasks:app beat", "orders"),
    (PYTHON, "python3 -m celery -A orders.celery worker", "orders"),
    (PYTHON, "python3 /venv/bin/flask --app orders run", "orders"),
    (PYTHON, "python3 /venv/bin/flask run", "shop"),
    (PYTHON, "python3 /venv/bin/streamlit run dash/board.py", "board"),
    ("/usr/bin/uwsgi", "uwsgi --module orders.wsgi:application", "orders"),
    ("/usr/bin/uwsgi-core", "uwsgi-core", "uwsgi-core"),
    ("/usr/bin/uwsgi", "uwsgi --ini /etc/uwsgi/orders.ini", "orders"),
    ("/usr/bin/uwsgi", "uwsgi --emperor /etc/uwsgi", "uwsgi"),
    # JavaScript
    (NODE, "node orders.js", "orders"),
    (NODE, "node server.js", "shop"),
    (NODE, "node --max-old-space-size=512 -r dotenv/config --import ./otel.mjs dist/orders.mjs", "orders"),
    (NODE, "node /usr/src/app/dist/index.js", "index"),
    (NODE, "node /srv/billing/dist/main.js", "billing"),
    (NODE, "node node_modules/.bin/ts-node -r tsconfig-paths/register src/orders.ts", "orders"),
    (NODE, "node /srv/shop/node_modules/.bin/next start", "shop"),
    (NODE, "=next-server (v14.1.0)", "shop"),
    (NODE, "=npm run start", "shop"),
    (NODE, "=node /srv/billing/billing-api.js", "billing-api"),
    (NODE, "=PM2 v5.3.0: God Daemon (/root/.pm2)", "pm2"),
    ("/usr/bin/deno", "deno run orders.ts --allow-net", "orders"),
    ("/usr/local/bin/bun", "bun run orders.ts", "orders"),
    # the JVM
    (JAVA, "java -Xmx1g -jar /opt/shop/orders.jar --password=x", "orders"),
    (JAVA, "java -jar orders-1.4.2-SNAPSHOT.jar", "orders"),
    (JAVA, "java -jar orders-service-0.0.1.jar", "orders-service"),
    (JAVA, "java -jar orders-1.0-jar-with-dependencies.jar", "orders"),
    (JAVA, "java -jar log4j2-tool.jar", "log4j2-tool"),
    (JAVA, "java -jar /srv/billing/app.jar", "billing"),
    (JAVA, "java -cp /opt/lib/* -Da=b --add-modules x.y com.example.shop.OrderServer 80", "OrderServer"),
    (JAVA, "java -p mods -m shop/com.example.Main", "Main"),
    (JAVA, "java -Dspring.application.name=orders -jar app.jar", "orders"),
    (JAVA, "java -Dotel.service.name=orders -jar app.jar", "orders"),
    (JAVA, "java -cp . org.springframework.boot.loader.launch.JarLauncher", "shop"),
    (JAVA, "java -cp x org.apache.catalina.startup.Bootstrap start", "tomcat"),
    (JAVA, "java -cp x kafka.Kafka server.properties", "kafka"),
    (JAVA, "java -version", "java"),
    # Ruby, PHP, Perl, shells and others
    (RUBY, "ruby -W1 -I lib orders.rb", "orders"),
    (RUBY, "ruby bin/rails server", "shop"),
    (RUBY, "=puma 6.4.0 (tcp://0.0.0.0:3000) [shop]", "shop"),
    (RUBY, "=puma: cluster worker 0: 4242 [shop]", "shop"),
    (RUBY, "ruby /usr/local/bin/puma -C config/puma.rb", "shop"),
    (RUBY, "=sidekiq 7.1.2 shop [0 of 5 busy]", "shop"),
    (RUBY, "=unicorn worker[0] -c config/unicorn.rb", "shop"),
    (RUBY, "=Passenger RubyApp: /srv/billing/public (production)", "billing"),
    ("/usr/sbin/php-fpm8.2", "=php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)", "php-fpm"),
    ("/usr/sbin/php-fpm8.2", "=php-fpm: pool www", "php-fpm"),
    ("/usr/sbin/php-fpm8.2", "=php-fpm: pool billing", "billing"),
    ("/usr/sbin/php-fpm8.2", "php-fpm8.2 --nodaemonize", "php-fpm"),
    (PHP, "php orders.php", "orders"),
    (PHP, "php artisan queue:work", "shop"),
    (PHP, "php -S 0.0.0.0:80 -t /srv/billing/public", "billing"),
    (PHP, "php -d memory_limit=1G -f import.php", "import"),
    ("/usr/bin/perl", "perl -w -I lib -MFoo::exec mailer.pl", "mailer"),
    ("/usr/bin/perl", "=starman master shop.psgi", "starman"),
    ("/usr/bin/bash", "bash -eu ./backup.sh /data", "backup"),
    ("/usr/bin/bash", "/bin/bash -c 'curl http://user:pw@host'", "bash"),
    ("/usr/bin/dash", "sh -o pipefail backup.sh", "backup"),
    ("/usr/bin/bash", "-bash", "bash"),
    ("/usr/lib/R/bin/exec/R", "R --no-echo --file=model.R", "model"),
    ("/usr/bin/dotnet", "dotnet Shop.Api.dll", "Shop.Api"),
    ("/usr/bin/lua5.4", "lua orders.lua", "orders"),
    ("/usr/lib/erlang/erts-13/bin/beam.smp", "beam.smp -W w -- -root x -sname rabbit@host1 -noshell", "rabbit"),
    ("/lib64/ld-linux-x86-64.so.2", "/lib64/ld-linux-x86-64.so.2 --library-path /x /opt/orders", "orders"),
    # titles
    ("/usr/sbin/nginx", "=nginx: worker process", "nginx"),
    ("/usr/sbin/nginx", "=nginx: master process /usr/sbin/nginx -g daemon on; master_process on;", "nginx"),
    ("/usr/lib/postgresql/15/bin/postgres", "=postgres: 15/main: shop shop 127.0.0.1(40532) idle", "postgres"),
    ("/usr/lib/postgresql/15/bin/postgres", "/usr/lib/postgresql/15/bin/postgres -D /var/lib/postgresql/15/main", "postgres"),
    ("/usr/bin/redis-check-rdb", "=/usr/bin/redis-server 127.0.0.1:6379", "redis-server"),
    ("/usr/bin/redis-server", "=redis-server *:6379 [cluster]", "redis-server"),
    ("/usr/sbin/sshd", "=sshd: root@pts/0", "sshd"),
    (PYTHON, "=gunicorn: master [shop.wsgi:app]", "shop"),
    (PYTHON, "=gunicorn: worker [shop.wsgi:app]", "shop"),
    (PYTHON, "=gunicorn: worker [shop-web]", "shop-web"),
    (PYTHON, "=[celeryd: celery@h:MainProcess] -active- (-A orders worker)", "orders"),
    (PYTHON, "=[celeryd: celery@h:ForkPoolWorker-1]", "celery"),
    (PYTHON, "orders-worker", "orders-worker"),
    (PYTHON, "invoices --token s3cret", "invoices"),
    (PYTHON, "/venv/bin/gunicorn --env K=v billing.wsgi:app", "billing"),
    ("/usr/sbin/apache2", "(wsgi:shop) -k start", "shop"),
    # executables
    ("/usr/sbin/apache2", "/usr/sbin/apache2 -k start", "apache2"),
    ("/usr/bin/memcached", "memcached -m 64", "memcached"),
    ("/srv/billing/bin/server", "./server --db postgres://u:p@h/d", "billing"),
    ("/usr/local/bin/orders", "orders", "orders"),
    ("/usr/local/bin/orders (deleted)", "orders", "orders"),
    ("/opt/My App/shop", "=/opt/My App/shop", "shop"),
    ("/bin/busybox", "httpd -f -p 80", "httpd"),
    ("/memfd:x (deleted)", "/opt/orders", "orders"),
    ("", "/opt/orders --x", "orders"),
]  # fmt: skip


def read(line: str) -> list[str]:
    return [line[1:]] if line.startswith("=") else shlex.split(line)


def name(executable: str, line: str, directory: str = CWD) -> CommandName:
    return name_command(
        read(line), executable=executable, working_directory=directory, comm="comm"
    )


@pytest.mark.parametrize(("executable", "line", "expected"), CASES)
def test_name(executable: str, line: str, expected: str) -> None:
    assert name(executable, line).name == expected


@pytest.mark.parametrize(
    ("executable", "line", "command"),
    [
        (PYTHON, "python3 -u orders.py --token s3cret", "python3 orders.py"),
        (PYTHON, "python3 -m pkg.mod --token s3cret", "python3 -m pkg.mod"),
        (PYTHON, "python3 -c 'login(\"s3cret\")'", "python3"),
        (PYTHON, "v/bin/gunicorn --env K=s3cret shop:app", "v/bin/gunicorn"),
        (JAVA, "java -Dpw=s3cret -jar a.jar --pw s3cret", "java -jar a.jar"),
        (JAVA, "java -Dpw=s3cret -cp x com.Shop s3cret", "java com.Shop"),
        ("/usr/bin/bash", "bash -c 's3cret'", "bash"),
        ("/usr/bin/bash", "bash -ce s3cret", "bash"),
        ("/usr/bin/mysql", "mysql -ps3cret", "mysql"),
        ("/usr/sbin/x", "=x: user s3cret", "x"),
        (NODE, "=node /srv/a.js --pw s3cret", "node /srv/a.js"),
        ("/opt/My App/shop", "=/opt/My App/shop", "/opt/My App/shop"),
    ],
)
def test_command_has_no_arguments(executable: str, line: str, command: str) -> None:
    found = name(executable, line)
    assert found.command == command
    assert "s3cret" not in found.name


@pytest.mark.parametrize(
    "line",
    [
        "python3 -c 'from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5)' --multiprocessing-fork",
        "python3 -c 'from multiprocessing.forkserver import main; main(7)'",
        "python3 -m joblib.externals.loky.backend.popen_loky_posix --process-name x",
    ],
)  # fmt: skip
def test_helpers_of_a_runtime(line: str) -> None:
    assert name(PYTHON, line).is_helper


@pytest.mark.parametrize(
    ("executable", "line", "bare"),
    [
        (PYTHON, "python3", True),
        (PYTHON, "python3 -c pass", True),
        (JAVA, "java -version", True),
        (PYTHON, "python3 orders.py", False),
        ("/usr/bin/memcached", "memcached", False),
    ],
)
def test_bare_interpreter(executable: str, line: str, *, bare: bool) -> None:
    found = name(executable, line)
    assert found.is_bare_interpreter == bare
    assert not found.is_helper


def test_a_process_without_arguments_is_its_executable() -> None:
    assert name_command([], executable="/usr/bin/orders").name == "orders"
    assert name_command([], comm="kworker/0:1").name == "kworker/0:1"


@pytest.mark.parametrize(
    ("directory", "expected"),
    [
        ("/srv/shop/releases/20260101120000", "shop"),
        ("/srv/shop/current/src", "shop"),
        ("/home/alice/shop", "shop"),
        ("/home/alice", "server"),
        ("/root", "server"),
        ("/", "server"),
        ("", "server"),
    ],
)
def test_shared_names_give_way_to_the_directory(directory: str, expected: str) -> None:
    assert name(NODE, "node server.js", directory).name == expected


STEERING_WORDS = (
    "-m -c -A --app --app= -jar -S -t -f -- - -sname --file= : . .. / /.. gunicorn "
    "celery a:b a. .py main.py (wsgi:) [celeryd: -um -X --name = uwsgi puma"
)
WORD = st.one_of(st.text(max_size=20), st.sampled_from(STEERING_WORDS.split()))
EXECUTABLE = st.one_of(st.text(max_size=20), st.sampled_from([row[0] for row in CASES]))


@given(st.lists(WORD), EXECUTABLE, st.one_of(st.text(max_size=20), st.just(CWD)))
def test_never_raises(words: list[str], executable: str, directory: str) -> None:
    found = name_command(
        words, executable=executable, working_directory=directory, comm="comm"
    )
    assert found.name
    assert found.found_by

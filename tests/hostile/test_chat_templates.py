"""Templates that loop for ever, fill the memory or reach for Python: stopped, in time and in little memory."""

import re
import sys
import threading
import time

import pytest

from subgpt.data.chat import ChatTemplate
from subgpt.errors import ConfigError, SubgptError

resource = pytest.importorskip("resource", reason="only POSIX tells how much memory was taken")

TALK = [{"role": "user", "content": "hi there"}]
TWICE = (
    "{%% set ns = namespace(x=%s, y=%s) %%}{%% for i in range(60) %%}"
    "{%% set ns.x = %s %%}{%% set ns.y = %s %%}{%% endfor %%}"
)


def twice(start, step):
    """Make two values that double sixty times."""
    return TWICE % (start, start, step.format("ns.x"), step.format("ns.y"))


LAUGHS = twice("[1]", "[{0}, {0}]")
TUPLES = twice("(1,)", "({0}, {0})")

ENDLESS = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "loops that leave everything out": "{% for a in range(99999) %}{% for b in range(99999) if false %}"
    "{% endfor %}{% endfor %}",
    "a macro that calls itself twice": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
    "{{ f(60) }}",
    "a macro that calls itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a recursive loop": "{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
    "a block that calls itself": "{% block b %}{{ self.b() }}{% endblock %}",
    "a long range": "{% for x in range(10 ** 9) %}{% endfor %}",
    "slow search": "{% set a = 'a' * 200000 %}{% set b = 'a' * 100000 ~ 'b' %}"
    "{% for i in range(99999) %}{{ '' if b in a }}{% endfor %}",
}
LARGE = {
    "product": "{{ 'a' * 10 ** 10 }}",
    "list product": "{% set x = [1] * 10 ** 10 %}",
    "power": "{{ 2 ** (2 ** 20) }}",
    "squares": "{% set ns = namespace(x=12345) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "percent": "{{ '%999999999d' % 1 }}",
    "percent star": "{{ '%*d' % (999999999, 1) }}",
    "percent filter": "{{ '%999999999d' | format(1) }}",
    "percent many": "{{ ('%(a)s' * 1000) % {'a': 'b' * 100000} }}",
    "format": "{{ '{:>9999999999}'.format(1) }}",
    "format in format": "{{ '{:{w}}'.format(1, w=9999999999) }}",
    "format many": "{{ ('{0}' * 1000).format('b' * 100000) }}",
    "doubling": twice("'aaaaaaaa'", "{0} ~ {0}") + "{{ ns.x | length }}",
    "doubling plus": twice("'aaaaaaaa'", "{0} + {0}"),
    "doubling lists": twice("[1]", "{0} + {0}"),
    "doubling blocks": "{% set x %}aaaaaaaa{% endset %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 60,
    "doubling replace": twice("'aa'", "{0}.replace('a', 'aa')"),
    "replace": "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
    "replace filter": "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}",
    "replace filter by name": "{{ ('a' * 100000) | replace(old='a', new='b' * 100000) }}",
    "replace nothing": "{{ ('a' * 100000).replace('', 'b' * 100000) }}",
    "join": "{{ ('b' * 100000).join('a' * 100000) }}",
    "join filter": "{{ ('a' * 100000) | join('b' * 100000) }}",
    "join filter by name": "{{ ('a' * 100000) | join(d='b' * 100000) }}",
    "indent": "{{ ('a\\n' * 100000) | indent(1000000) }}",
    "indent by name": "{{ ('a\\n' * 100000) | indent(width=1000000) }}",
    "json indent": "{{ [[1] * 1000] * 1000 | tojson(indent=1000000000) }}",
    "json deep": "{% set ns = namespace(x=[1]) %}{% for i in range(90) %}{% set ns.x = [ns.x] %}{% endfor %}"
    "{{ ns.x | tojson }}",
    "escape": "{{ ('<' * 700000) | e }}",
    "text between tags": "{% for i in range(99999) %}" + "x" * 10000 + "{% endfor %}",
    "text in a block": "{% set y %}{% for i in range(99999) %}" + "x" * 10000 + "{% endfor %}{% endset %}",
    "slices": "{% set x = range(99999) | list %}{% set y = [" + "x[1:], " * 3000 + "] %}",
    "a growing list": "{% set ns = namespace(l=[]) %}{% for i in range(99999) %}{% set ns.l = ns.l + [1] %}"
    "{% endfor %}",
    "map": "{{ range(99999) | map('string') | map('replace', '1', 'x' * 10000) | join }}",
    "laughs": LAUGHS + "{{ ns.x }}",
    "laughs json": LAUGHS + "{{ ns.x | tojson }}",
    "laughs string": LAUGHS + "{{ ns.x | string }}",
    "laughs tilde": LAUGHS + "{{ 'a' ~ ns.x }}",
    "laughs percent": LAUGHS + "{{ '%s' % ns.x }}",
    "laughs format": LAUGHS + "{{ '{}'.format(ns.x) }}",
    "laughs refused": LAUGHS + "{{ raise_exception(ns.x) }}",
    "laughs equal": LAUGHS + "{{ ns.x == ns.y }}",
    "laughs in": LAUGHS + "{{ ns.x in [ns.y] }}",
    "laughs select": LAUGHS + "{{ [ns.x] | select('equalto', ns.y) | list }}",
    "laughs index": LAUGHS + "{{ [ns.x].index(ns.y) }}",
    "laughs changed": LAUGHS
    + "{% for i in [1, 2] %}{{ loop.changed(ns.x) }}{{ loop.changed(ns.y) }}{% endfor %}",
    "laughs called": LAUGHS + "{{ ns.x() }}",
    "laughs hash": TUPLES + "{{ {ns.x: 1} }}",
    "laughs lookup": TUPLES + "{{ {1: 1}[ns.x] }}",
    "laughs get": TUPLES + "{{ {1: 1}.get(ns.x) }}",
    "laughs unique": TUPLES + "{{ [ns.x] | unique | list }}",
    "laughs dict": twice("{}", "dict(a={0}, b={0})") + "{{ ns.x | string }}",
    "laughs namespace": "{% set ns = namespace(x=[1]) %}{% set ns.x = [ns, ns] %}{{ ns }}",
    "not there": "{{ lipsum(n=10 ** 9) }}",
}
REACHING = {
    "class": "{{ ''.__class__.__mro__ }}",
    "item": "{{ ''['__class__'] }}",
    "map": "{{ [''] | map(attribute='__class__') | list }}",
    "select": "{{ [''] | selectattr('__class__') | list }}",
    "sort": "{{ ['', ''] | sort(attribute='__class__') }}",
    "format": "{{ '{0.__class__}'.format(1) }}",
    "format map": "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    "percent": "{{ raise_exception.__globals__ }}",
    "self": "{{ self._TemplateReference__context }}",
    "macro": "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}",
    "namespace": "{{ namespace.__init__.__globals__ }}",
    "loop": "{% for x in [1] %}{{ loop.__class__ }}{% endfor %}",
    "dict": "{{ dict.fromkeys }}",
    "append": "{% set x = [] %}{{ x.append(1) }}",
    "update": "{{ messages[0].update({'role': 'x'}) }}",
    "bytes": "{{ (5).to_bytes(10000000000, 'big') }}",
    "center": "{{ 'a'.center(10000000000) }}",
    "zeros": "{{ 'a'.zfill(10000000000) }}",
    "tabs": "{{ '\\t'.expandtabs(10000000000) }}",
    "encode": "{{ 'a'.encode('utf-16') }}",
    "call": "{{ messages() }}",
    "generator": "{{ messages | map('upper') }}",
}
BROKEN = {
    "deep brackets": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "many nots": "{{ " + "not " * 5000 + "1 }}",
    "deep ifs": "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
    "deep loops": "{% for a in [1] %}" * 30 + "{% endfor %}" * 30,
    "long number": "{{ " + "1" * 5000 + " }}",
    "attr filter": "{{ '' | attr('__class__') }}",
    "center filter": "{{ 'a' | center(10000000000) }}",
    "batch filter": "{{ [1] | batch(10000000000, 0) | list }}",
    "sum filter": "{{ ([[1]] * 100000) | sum(start=[]) }}",
    "a name of our own": "{{ 1 | ~step }}",
}


@pytest.fixture(autouse=True)
def little_memory():
    """Memory is watched: nothing here may take more than some hundred megabytes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> (
        20 if sys.platform == "darwin" else 10
    )
    assert grown < 400, f"{grown} MiB"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", [*ENDLESS, *LARGE, *REACHING])
def test_harm_is_stopped(name):
    template = ChatTemplate({**ENDLESS, **LARGE, **REACHING}[name], "bad")
    began = time.thread_time()
    with pytest.raises(
        SubgptError, match=r"^the chat template bad (was stopped|fails on the messages): "
    ) as caught:
        template.render(TALK)
    assert time.thread_time() - began < 10
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_compiled_is_refused(name):
    with pytest.raises(ConfigError, match="the chat template bad"):
        ChatTemplate(BROKEN[name], "bad").render(TALK)


def test_a_long_conversation_is_no_harm():
    talk = [{"role": ("user", "assistant")[i % 2], "content": f"{i} " * 500} for i in range(400)]
    source = (
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns') }}"
        "{% endif %}{{ '[INST] ' + m.content | trim + ' [/INST]' }}{% endfor %}"
    )
    assert len(ChatTemplate(source).render(talk)) > 100_000


def test_threads_have_budgets_of_their_own():
    made = []

    def render():
        made.append(
            ChatTemplate("{% for i in range(50000) %}{% endfor %}{{ messages[0].content }}").render(TALK)
        )

    threads = [threading.Thread(target=render) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["hi there"] * 4


def test_no_mark_of_ours_is_left_in_a_text():
    source = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    assert not re.search("[\ufdd0-\ufdef]", ChatTemplate(source).render(TALK))

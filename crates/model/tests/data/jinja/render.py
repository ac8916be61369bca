"""Renders chat templates with jinja2, set up as Hugging Face's transformers sets it up.

Reads JSON from standard input: {"now": seconds, "templates": {name: text}, "jobs": [[name, variables], ...]}. Writes a
list with one {"text": ...} or {"error": ...} a job. Called by crates/model/tests/jinja.rs.
"""

import json
import sys
from contextlib import contextmanager
from datetime import datetime, timezone

import jinja2
import jinja2.ext
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(Extension):
    """`{% generation %}` as a block that is called, like transformers' tracker of the assistant's tokens."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    @jinja2.pass_eval_context
    def _body(self, context, caller):
        return caller()


def environment(now):
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = now.strftime
    return env


def outcome(env, text, variables):
    try:
        template = env.from_string(text)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}", "at": "compile"}
    try:
        return {"text": template.render(**{"tools": None, "documents": None, **variables})}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}", "at": "render"}


def main():
    request = json.load(sys.stdin)
    now = datetime.fromtimestamp(request["now"], tz=timezone.utc).replace(tzinfo=None)
    env = environment(now)
    results = [outcome(env, request["templates"][name], variables) for name, variables in request["jobs"]]
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()

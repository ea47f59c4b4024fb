# Records what Hugging Face's transformers (5.12.1) and Jinja (3.1.6) make of chat templates, for ChatTemplateOracleTests.
#
#   apt-get install python3-transformers python3-jinja2        # Debian testing, as root; or pip install transformers jinja2
#   python3 tests/MatFormer.Runtime.Tests/Chat/Oracle/record.py
#
# Reads cases.json, conversations.json and templates/ beside it; writes expected.json. A text is what the template renders, null means that
# it is refused, and {"raised": message} that the template refuses it itself by raise_exception. The clock stands still, so that dates are
# the same in each run.
import datetime
import json
import pathlib

import jinja2
from transformers.utils import chat_template_utils

HERE = pathlib.Path(__file__).parent
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2026, 3, 7, 9, 5, 1)


def rendered(template, variables):
    try:
        return chat_template_utils._compile_jinja_template(template).render(**variables)
    except jinja2.TemplateError as e:
        # raise_exception raises the base class, Jinja itself its subclasses.
        return {"raised": str(e)} if type(e) is jinja2.TemplateError else None
    except (TypeError, ValueError, ZeroDivisionError, OverflowError, AttributeError, RecursionError):
        return None


def read(name):
    return json.loads((HERE / name).read_text())


chat_template_utils.datetime = Clock
cases = read("cases.json")
conversations = []
for path in sorted((HERE / "templates").glob("*.jinja")):
    for conversation in read("conversations.json"):
        variables = {"tools": None, "documents": None, "add_generation_prompt": True, **TOKENS, **conversation}
        name = variables.pop("name")
        conversations.append([path.name, name, rendered(path.read_text(), variables)])
expected = {
    "cases": [rendered(case, cases["variables"]) for case in cases["templates"]],
    "conversations": conversations,
}
(HERE / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n")

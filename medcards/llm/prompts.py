"""Prompts of a language model, as messages and as tokens. Training and evaluation both use them."""

import logging
from collections.abc import Sequence
from functools import cache, lru_cache

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from medcards import InputError, reason_of

log = logging.getLogger(__name__)

# For a base model without a chat template.
PLAIN_TEMPLATE = (
    "{{ bos_token if bos_token is defined else '' }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
    "{% elif message['role'] == 'user' %}{{ 'Question: ' + message['content'] + '\n' }}"
    "{% else %}{{ 'Answer: ' + message['content'] + eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Answer:' }}{% endif %}"
)
# Stands before a template that takes no system turn.
SYSTEM_IN_USER_TURN = (
    "{% if messages[0]['role'] == 'system' %}"
    "{% set asked = {'role': 'user', 'content': messages[0]['content'] + '\n\n' + messages[1]['content']} %}"
    "{% set messages = [asked] + messages[2:] %}"
    "{% endif %}"
)
# Stands before a template that writes today's date. Jinja calls this macro in place of transformers' function.
FIXED_DATE = (
    "{% macro strftime_now(format) %}"
    "{{ format | replace('%d', '26') | replace('%b', 'Jul') | replace('%B', 'July') | replace('%m', '07')"
    " | replace('%Y', '2024') | replace('%y', '24') | replace('%A', 'Friday') | replace('%a', 'Fri') }}"
    "{% endmacro %}"
)
_PROBE = "Fever of unknown origin"
"""A text that no template writes."""
INSTRUCTION = "Answer from one of these cards and begin with its number, as in [1]."
"""Stands between the cards and the question."""


def settled_template(tokenizer: PreTrainedTokenizerBase, name: str) -> str:
    """A tokenizer's chat template, such that equal messages give equal prompts, and that takes a system turn.

    A plain template stands in for a missing one. The date is fixed. Where the template refuses or drops a system turn,
    the system prompt goes into the user's turn. The template is saved with the adapter and with the merged model, so
    that other programs write the same prompts.

    Parameters
    ----------
    name : what the log calls the model.

    Raises
    ------
    InputError : the template cannot be rendered.
    """
    template = PLAIN_TEMPLATE if tokenizer.chat_template is None else tokenizer.get_chat_template()
    if "strftime_now" in template and FIXED_DATE not in template:
        template = FIXED_DATE + template
    try:
        _render(tokenizer, prompt("Why?", ""), chat_template=template)
    except TemplateError as error:
        raise InputError(f"{name}: its chat template cannot be rendered ({reason_of(error)})") from None
    try:
        shown = _render(tokenizer, prompt("Why?", _PROBE), chat_template=template)
    except TemplateError:  # what a template raises by raise_exception
        shown = ""
    if _PROBE not in shown:
        _log_once(f"{name}: its chat template takes no system turn, so the system prompt goes into the user's turn")
        template = SYSTEM_IN_USER_TURN + template
    return template


@cache
def _log_once(line: str) -> None:
    log.info(line)


Example = tuple[str, str]
"""A question and its answer, which stand in a prompt as an earlier turn."""


def prompt(
    question: str, system_prompt: str, context: Sequence[str] = (), examples: Sequence[Example] = ()
) -> list[dict[str, str]]:
    """The messages that ask a question, after the turns of ``examples`` and after the texts of ``context``.

    The texts are numbered in their order, and :data:`INSTRUCTION` follows them.

    >>> print(prompt("What is gout?", "", ["Gout is an arthritis.", "A cyst is a sac."])[0]["content"])
    Known cards:
    [1] Gout is an arthritis.
    [2] A cyst is a sac.
    <BLANKLINE>
    Answer from one of these cards and begin with its number, as in [1].
    <BLANKLINE>
    What is gout?
    >>> [turn["content"] for turn in prompt("What is gout?", "", examples=[("What is a cyst?", "A sac.")])]
    ['What is a cyst?', 'A sac.', 'What is gout?']
    """
    turns = [{"role": "system", "content": system_prompt}] if system_prompt else []
    for asked, answer in examples:
        turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    if context:
        numbered = "".join(f"[{number}] {text}\n" for number, text in enumerate(context, start=1))
        question = f"Known cards:\n{numbered}\n{INSTRUCTION}\n\n{question}"
    return [*turns, {"role": "user", "content": question}]


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase,
    question: str,
    system_prompt: str,
    context: Sequence[str] = (),
    examples: Sequence[Example] = (),
) -> list[int]:
    """The token ids of :func:`prompt`, the start of the assistant's turn included.

    Question, context and examples are read as text. A control token in them, such as the end of a turn, is broken by a
    space, so that its string is no token. The system prompt is left as it is.
    """
    messages = _without_control_tokens(tokenizer, prompt(question, system_prompt, context, examples))
    return _ids(tokenizer, _render(tokenizer, messages, add_generation_prompt=True))


def answer_ids(tokenizer: PreTrainedTokenizerBase, question: str, answer: str, system_prompt: str) -> list[int]:
    """The token ids of the assistant's turn after :func:`prompt_ids`, its end included. A model learns these tokens.

    What the template writes after the end token, such as a line break, is left out. Question and answer are read as
    text, as in :func:`prompt_ids`.

    Raises
    ------
    InputError : the chat template renders the prompt differently when an answer follows, so that the start of the
        answer is not known.
    """
    turns = [*prompt(question, system_prompt), {"role": "assistant", "content": answer}]
    turns = _without_control_tokens(tokenizer, turns)
    head, whole = _render(tokenizer, turns[:-1], add_generation_prompt=True), _render(tokenizer, turns)
    if not whole.startswith(head):
        raise InputError(
            "llm.model's chat template renders a prompt differently when an answer follows: use another model"
        )
    ids, end = _ids(tokenizer, whole[len(head) :]), end_of_turn(tokenizer)
    return ids[: len(ids) - ids[::-1].index(end)] if end in ids else [*ids, end]


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the token that ends an answer.

    It is the first added token that the chat template writes after an answer. If it writes none, it is the end token
    of the model.
    """
    turn = _render(tokenizer, [*prompt("Why?", ""), {"role": "assistant", "content": _PROBE}])
    after, added = _ids(tokenizer, turn.rpartition(_PROBE)[2]), tokenizer.added_tokens_decoder
    return next((id for id in after if id in added and added[id].content.strip()), tokenizer.eos_token_id)


def _without_control_tokens(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """The messages, with the control tokens of the tokenizer broken in all turns but the system's."""
    tokens = _control_tokens(tokenizer, len(tokenizer))
    return [
        turn if turn["role"] == "system" else turn | {"content": _broken(turn["content"], tokens)} for turn in messages
    ]


@lru_cache(maxsize=4)  # some tokenizers have thousands of added tokens
def _control_tokens(tokenizer: PreTrainedTokenizerBase, size: int) -> list[str]:
    """The strings of the added tokens that are no words, without blanks at their ends.

    Templates also write added tokens that are not marked as special. Those of letters, digits, spaces, hyphens and
    apostrophes only are words that somebody taught the model. So are single characters.

    Parameters
    ----------
    size : number of tokens, which changes when tokens are added.
    """
    found = [(token.content.strip(), token.special) for token in tokenizer.added_tokens_decoder.values()]
    return [text for text, special in found if text and (special or (len(text) > 1 and not _is_word(text)))]


def _is_word(text: str) -> bool:
    return all(character.isalnum() or character in " -'" for character in text)


def _broken(text: str, tokens: list[str]) -> str:
    """The text with a space after the first character of every token. A token of one character becomes a space.

    A broken token can complete another one, so this is repeated until the text holds none.
    """
    while found := [token for token in tokens if token in text]:
        for token in found:
            text = text.replace(token, f"{token[0]} {token[1:]}" if len(token) > 1 else " ")
    return text


def _render(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], **options: object) -> str:
    return tokenizer.apply_chat_template(messages, tokenize=False, **options)


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]

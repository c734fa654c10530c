"""Prompts of a language model, as messages and as tokens. Training and evaluation both use them."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from medcards import InputError

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


def prompt(question: str, system_prompt: str, context: Sequence[str] = ()) -> list[dict[str, str]]:
    """The messages that ask a question, after the texts of ``context``.

    >>> prompt("What is gout?", "", ["Gout is an arthritis."])[0]["content"]
    'Known cards:\\n- Gout is an arthritis.\\n\\nWhat is gout?'
    """
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    if context:
        question = "Known cards:\n" + "".join(f"- {text}\n" for text in context) + f"\n{question}"
    return [*system, {"role": "user", "content": question}]


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase, question: str, system_prompt: str, context: Sequence[str] = ()
) -> list[int]:
    """The token ids of :func:`prompt`, the start of the assistant's turn included."""
    return _ids(tokenizer, _render(tokenizer, prompt(question, system_prompt, context), add_generation_prompt=True))


def answer_ids(tokenizer: PreTrainedTokenizerBase, question: str, answer: str, system_prompt: str) -> list[int]:
    """The token ids of the assistant's turn after :func:`prompt_ids`, its end included. A model learns these tokens.

    Raises
    ------
    InputError : the chat template renders the prompt differently when an answer follows, so that the start of the
        answer is not known.
    """
    asked = prompt(question, system_prompt)
    head = _render(tokenizer, asked, add_generation_prompt=True)
    whole = _render(tokenizer, [*asked, {"role": "assistant", "content": answer}])
    if not whole.startswith(head):
        raise InputError(
            "llm.model's chat template renders a prompt differently when an answer follows: use another model"
        )
    return _ids(tokenizer, whole[len(head) :])


def _render(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], **options: bool) -> str:
    return tokenizer.apply_chat_template(messages, tokenize=False, **options)


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]

"""Chat templates lay conversations out; only what the assistant says, and the token that ends it, is learned.

A template is plain data: the text around the turns of each role. Its tags are roles of the tokenizer (<bos>,
<eos>) or special tokens of a published vocabulary (<|im_end|>), see `layouts.Writer`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from mmjax.data.layouts import Sample, Slots, Writer, one_slot
from mmjax.data.records import IMAGE, BadRecord, Conversation, Turn
from mmjax.data.tokenizer import Tokenizer
from mmjax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Around:
    """The text around a turn: `before`, `lead` (encoded together with the turn's own words), and `after`."""

    before: str = ""
    lead: str = ""
    after: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChatTemplate:
    """How a conversation is written.

    Attributes:
      start: before everything.
      system, user, assistant: the text around the turns.
      end: ends what the assistant says, and is learned; the rest of `assistant` is not.
      preamble: the system turn of a conversation that brings none; "" for none.
      pictures_first: the pictures of a turn stand before it, instead of where its text has them.
      questions: whether the user's words are written at all; without, only the pictures are.
    """

    start: str = "<bos>"
    system: Around = Around(after="\n")
    user: Around = Around(after="\n")
    assistant: Around = Around()
    end: str = "<eos>"
    preamble: str = ""
    pictures_first: bool = False
    questions: bool = True

    def sample(
        self, tokenizer: Tokenizer, record: Conversation, length: int, slots: Slots = one_slot
    ) -> Sample:
        """The conversation, without its last exchanges where they do not fit into `length` tokens.

        Raises:
          BadRecord: not even the first exchange fits, or the assistant says nothing.
        """
        written = Writer(tokenizer, slots)
        written.markup(self.start)
        pictures = iter(record.images)
        learned = 0
        exchange = Writer(tokenizer, slots)
        for turn in self._turns(record):
            self._write(exchange, turn, pictures)
            if turn.role != "assistant":
                continue
            if len(written) + len(exchange) > length:
                break
            written.add(exchange)
            learned, exchange = learned + 1, Writer(tokenizer, slots)
        if not learned and len(exchange) + len(written) > length:
            message = f"{len(exchange) + len(written)} tokens to its first answer, room for {length}"
            raise BadRecord("", "too long", message)
        return written.sample(length)

    def prompt(self, tokenizer: Tokenizer, record: Conversation, slots: Slots = one_slot) -> list[int]:
        """The ids up to where the assistant is to speak, after these turns."""
        written = Writer(tokenizer, slots)
        written.markup(self.start)
        pictures = iter(record.images)
        for turn in self._turns(record):
            self._write(written, turn, pictures)
        written.markup(self.assistant.before)
        return written.written

    def _turns(self, record: Conversation) -> Iterator[Turn]:
        if self.preamble and record.turns[0].role != "system":
            yield Turn("system", self.preamble)
        yield from record.turns

    def _write(self, writer: Writer, turn: Turn, pictures: Iterator[bytes]) -> None:
        around, said = getattr(self, turn.role), turn.role == "assistant"
        pieces = turn.text.strip().split(IMAGE)
        if self.pictures_first:
            for _ in pieces[1:]:
                writer.picture(next(pictures))
            pieces = ["".join(pieces).strip()]
        writer.markup(around.before)
        for number, piece in enumerate(pieces):
            if number:
                writer.picture(next(pictures))
            if said or self.questions or turn.role == "system":
                leads = number == 0 and (piece or len(pieces) > 1) and not piece[:1].isspace()
                writer.text(around.lead * bool(leads) + piece, target=said)
        if said:
            writer.end(self.end)
        writer.markup(around.after)


# Sources: LLaVA conversation.py (vicuna_v1, plain), llama-models chat_format.py (llama3), Qwen's model cards
# (chatml), InstructBLIP and Flamingo appendix B (short_answer).
TEMPLATES = {
    "plain": ChatTemplate(),
    "llava_plain": ChatTemplate(questions=False, user=Around(), assistant=Around(after="\n")),
    "vicuna_v1": ChatTemplate(
        preamble="A chat between a curious user and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the user's questions.",
        system=Around(),
        user=Around(before=" USER:", lead=" "),
        assistant=Around(before=" ASSISTANT:", lead=" "),
    ),
    "llama3": ChatTemplate(
        system=Around(before="<|start_header_id|>system<|end_header_id|>\n\n", after="<|eot_id|>"),
        user=Around(before="<|start_header_id|>user<|end_header_id|>\n\n", after="<|eot_id|>"),
        assistant=Around(before="<|start_header_id|>assistant<|end_header_id|>\n\n"),
        end="<|eot_id|>",
    ),
    "chatml": ChatTemplate(
        start="",
        system=Around(before="<|im_start|>system\n", after="<|im_end|>\n"),
        user=Around(before="<|im_start|>user\n", after="<|im_end|>\n"),
        assistant=Around(before="<|im_start|>assistant\n", after="\n"),
        end="<|im_end|>",
    ),
    "short_answer": ChatTemplate(
        system=Around(after=" "),
        user=Around(before="Question:", lead=" "),
        assistant=Around(before=" Short answer:", lead=" "),
        pictures_first=True,
    ),
}


def chat_template(template: str | ChatTemplate) -> ChatTemplate:
    """A template of its own, or the published one of this name.

    Raises:
      UserError: there is none of this name.
    """
    if isinstance(template, ChatTemplate):
        return template
    if template not in TEMPLATES:
        raise UserError(f"data.chat is {template!r}: use one of {', '.join(TEMPLATES)}.")
    return TEMPLATES[template]

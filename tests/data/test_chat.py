import numpy as np
import pytest
from pictures import noise

from mmjax.data.chat import TEMPLATES, ChatTemplate, chat_template
from mmjax.data.pipeline import DataConfig, Pipeline, train_tokenizer
from mmjax.data.records import BadRecord, Conversation, Turn
from mmjax.data.templates import Template
from mmjax.data.tokenizer import BOS, EOS, IMAGE, Tokenizer
from mmjax.data.worlds.world import write
from mmjax.errors import UserError

LONG = 400


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["a b c"], 268)  # no merges: one token per byte


def talk(*texts, images=None, system=""):
    """A conversation of alternating turns."""
    turns = [Turn(("user", "assistant")[number % 2], text) for number, text in enumerate(texts)]
    count = sum(text.count("<image>") for text in texts) if images is None else images
    first = (Turn("system", system),) if system else ()
    return Conversation(id="t", images=tuple(noise(i) for i in range(count)), turns=(*first, *turns))


def shown(tokenizer, sample):
    """The text of a sample, with what is learned in [brackets]."""
    names = {BOS: "<bos>", EOS: "<eos>", IMAGE: "<image>"}
    text, inside = "", False
    for id, target in zip(sample.ids.tolist(), sample.is_target.tolist(), strict=True):
        text += ("[" if target else "]") * (target != inside) + (names.get(id) or tokenizer.decode([id]))
        inside = target
    return text + "]" * inside


EXPECTED = {
    "plain": "<bos>Be brief.\n<image>What?\n[Cat.<eos>]Sure?\n[Yes.<eos>]",
    "llava_plain": "<bos>Be brief.\n<image>[Cat.<eos>]\n[Yes.<eos>]\n",
    "vicuna_v1": (
        "<bos>Be brief. USER: <image>What? ASSISTANT:[ Cat.<eos>] USER: Sure? ASSISTANT:[ Yes.<eos>]"
    ),
    "llama3": (
        "<bos><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n<image>What?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n[Cat.<eos>]"
        "<|start_header_id|>user<|end_header_id|>\n\nSure?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n[Yes.<eos>]"
    ),
    "chatml": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n<image>What?<|im_end|>\n"
        "<|im_start|>assistant\n[Cat.<eos>]\n<|im_start|>user\nSure?<|im_end|>\n"
        "<|im_start|>assistant\n[Yes.<eos>]\n"
    ),
    "short_answer": (
        "<bos>Be brief. <image>Question: What? Short answer:[ Cat.<eos>]"
        "Question: Sure? Short answer:[ Yes.<eos>]"
    ),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_published_templates(tokenizer, name):
    record = talk("<image>What?", "Cat.", "Sure?", "Yes.", system="Be brief.")
    sample = TEMPLATES[name].sample(tokenizer, record, LONG)
    assert shown(tokenizer, sample) == EXPECTED[name]
    assert sample.pictures == record.images


def test_tags_that_the_vocabulary_has_are_one_token_each():
    import tokenizers
    from tokenizers import models, pre_tokenizers

    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tags = ["<|im_start|>", "<|im_end|>", "<image>"]
    backend.add_special_tokens(tags)
    backend.add_tokens([chr(code) for code in range(33, 127)] + ["Ġ", "Ċ"])
    published = Tokenizer(backend.to_str(), {"<image>": 2})
    sample = TEMPLATES["chatml"].sample(published, talk("<image>Hi<|im_end|>", "Cat"), LONG)
    assert (sample.ids == 0).sum() == 2  # <|im_start|> of the user and of the assistant
    # The user cannot end a turn: of his <|im_end|> nothing is the special token.
    assert (sample.ids == 1).sum() == 2 and sample.ids[sample.is_target][-1] == 1


def test_a_preamble_stands_in_for_a_missing_system_turn(tokenizer):
    text = shown(tokenizer, TEMPLATES["vicuna_v1"].sample(tokenizer, talk("Hi", "Ho"), LONG))
    assert text.startswith("<bos>A chat between a curious user") and text.endswith(
        "questions. USER: Hi ASSISTANT:[ Ho<eos>]"
    )


def test_short_answers_are_asked_as_the_evaluators_ask(tokenizer):
    record = talk("<image>\nIs it red?", "yes")
    sample = TEMPLATES["short_answer"].sample(tokenizer, record, LONG)
    asked = Template("<bos><image>Question: {caption} Short answer:").prompt(tokenizer, None, "Is it red?")
    np.testing.assert_array_equal(sample.ids[: len(asked["tokens"])], asked["tokens"])
    assert sample.is_target.sum() == len(" yes") + 1
    question = Conversation(id="q", images=record.images, turns=record.turns[:1])
    np.testing.assert_array_equal(TEMPLATES["short_answer"].prompt(tokenizer, question), asked["tokens"])


def test_markers_and_ends_in_the_words_of_a_turn_are_text(tokenizer):
    sample = ChatTemplate().sample(tokenizer, talk("<image>say <eos>", "<eos><bos>"), LONG)
    assert (sample.ids == EOS).sum() == 1 and (sample.ids == BOS).sum() == 1


def test_pictures_take_the_slots_they_need(tokenizer):
    sizes = {noise(0): 3, noise(1): 5}
    sample = ChatTemplate().sample(tokenizer, talk("<image>a<image>", "b"), LONG, sizes.__getitem__)
    at = np.flatnonzero(sample.ids == IMAGE)
    assert at.tolist() == [1, 2, 3, 5, 6, 7, 8, 9]


def test_exchanges_that_do_not_fit_are_left_out_whole(tokenizer):
    record = talk("a", "b", "<image>c", "d" * 50)
    sample = ChatTemplate().sample(tokenizer, record, 20)
    assert shown(tokenizer, sample) == "<bos>a\n[b<eos>]" and sample.pictures == ()
    with pytest.raises(BadRecord, match="room for 4") as caught:
        ChatTemplate().sample(tokenizer, record, 4)
    assert caught.value.kind == "too long"


def test_nothing_to_learn_is_refused(tokenizer):
    with pytest.raises(BadRecord) as caught:
        ChatTemplate().sample(tokenizer, talk("<image>what?"), LONG)
    assert caught.value.kind == "no target"


def test_a_run_refuses_a_sample_without_target_by_its_id(tmp_path):
    good = [
        Conversation(id=f"g{i}", images=(noise(i),), turns=talk("<image>hm?", "yes").turns) for i in range(9)
    ]
    mute = Conversation(id="mute", images=(noise(0),), turns=talk("<image>hm?").turns)
    many = Conversation(id="many", images=(noise(0),) * 2, turns=talk("<image><image>?", "no").turns)
    source = write(tmp_path / "world", {"train": [*good, mute, many]}, {}).directory
    config = DataConfig(source=source, image_size=8, text_length=40, max_bad_share=0.2, chat="short_answer")
    pipeline = Pipeline(config, train_tokenizer(config))
    batches = list(pipeline.evaluate(3))
    assert [int(i) for batch in batches for i in batch["index"]] == list(range(9))
    assert [(id, kind) for id, kind, _ in pipeline.problems] == [
        ("mute", "no target"),
        ("many", "too many pictures"),
    ]
    assert pipeline.problem_counts() == {"no target": 1, "too many pictures": 1}
    said = [pipeline.tokenizer.decode(row[row >= 0]) for row in batches[0]["targets"]]
    assert said == [" yes"] * 3


def test_templates_by_name():
    assert chat_template("llama3") is TEMPLATES["llama3"]
    assert chat_template(ChatTemplate(end="<x>")).end == "<x>"
    with pytest.raises(UserError, match=r"data\.chat is 'lama3': use one of plain"):
        DataConfig(source="x", chat="lama3")

"""The table of kinds: what it says of each kind holds, and what a kind cannot do is told in one line."""

import json

import pytest
import torch
from sentencepiece import SentencePieceProcessor
from small_encoders import save_encoder, sentencepiece_model, small_config
from transformers import pipeline

from fsd.glue.tasks import find_task
from fsd.models.fitting import check_runs, fit, output_layer
from fsd.models.forward import forward, last_attention
from fsd.models.hub import find_model
from fsd.models.kinds import KINDS, takes_token_types
from fsd.models.loading import load_finetuned, load_pretrained
from fsd.models.model_files import attention_of, make_config, model_class, read_config
from fsd.models.packing import pack
from fsd.models.student import build_for_finetuning, new_model, student_config
from fsd.models.tokenizer import load_tokenizer
from fsd.records.checkpoints import save_model
from fsd.system.errors import InputError

RTE, MNLI = find_task("RTE"), find_task("MNLI")
LENGTHS = [7, 12, 3, 2, 5]


@pytest.fixture(scope="module")
def encoder(toy_glue, tmp_path_factory):
    """Call ``encoder(kind)``: the :class:`ModelSource` of a small random text classifier for RTE."""
    made = {}

    def make(kind, **values):
        name = kind + json.dumps(values)
        if name not in made:
            folder = tmp_path_factory.mktemp(kind)
            made[name] = save_encoder(folder, kind, toy_glue / "RTE/train.tsv", toy_glue, **values)
        return find_model(made[name], "--model_name_or_path")

    return make


def small_model(kind, attention=None, **values):
    """A small random model in double precision and eval mode."""
    torch.manual_seed(0)
    config = small_config(kind, pad_token_id=1, num_labels=3, **values)
    kind = model_class(config)
    return kind._from_config(config, attn_implementation=attention or attention_of(kind)).double().eval()


def encoded():
    """A padded batch, whose padding token stands in one text, too."""
    generator = torch.Generator().manual_seed(0)
    mask = (torch.arange(14) < torch.tensor(LENGTHS)[:, None]).long()
    ids = torch.where(mask == 1, torch.randint(5, 50, mask.shape, generator=generator), 1)
    ids[1, 4] = 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.randint(2, mask.shape, generator=generator) * mask}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, "albert"])
def test_the_forward_pass_is_that_of_the_model_itself(kind, packed):
    model, batch, layers = small_model(kind), encoded(), range(5)
    inputs = batch if takes_token_types(model.config) else {name: batch[name] for name in ("input_ids", "attention_mask")}
    expected = model(**inputs, output_hidden_states=True)
    packing = pack(torch.tensor(LENGTHS), 14) if packed else None
    logits, hidden = forward(model, batch, layers, packing)
    close, real = {"rtol": 1e-9, "atol": 1e-9}, batch["attention_mask"].bool()
    torch.testing.assert_close(logits, expected.logits, **close)
    assert len(expected.hidden_states) == 5
    for layer in layers:
        torch.testing.assert_close(hidden[layer][real], expected.hidden_states[layer][real], **close)
        if packed and KINDS.get(kind) and KINDS[kind].head:
            assert not hidden[layer][~real].any()


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.projections])
def test_the_projections_give_the_attention_of_the_last_layer(kind):
    model, batch = small_model(kind, "eager"), encoded()
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    outputs = model(**inputs, output_hidden_states=True, output_attentions=True)
    queries, keys, values = last_attention(model, outputs.hidden_states[-2])
    padding = ~batch["attention_mask"].bool()[:, None, None, :]
    scores = (queries @ keys.mT / 8**0.5).masked_fill(padding, -torch.inf)  # d_head is 8
    torch.testing.assert_close(scores.softmax(dim=-1), outputs.attentions[-1], rtol=1e-9, atol=1e-9)
    assert values.shape == queries.shape == (5, 2, 14, 8)


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.layers])
def test_a_model_without_its_last_layer_ends_with_that_layers_input(kind):
    model, batch = small_model(kind), encoded()
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    expected = model.base_model(**inputs, output_hidden_states=True).hidden_states[3]
    del model.base_model.get_submodule(KINDS[kind].layers)[3:]
    shorter = model.base_model(**inputs, output_hidden_states=True)
    assert torch.equal(shorter.last_hidden_state, expected) and torch.equal(shorter.hidden_states[3], expected)


@pytest.mark.parametrize("kind", [*KINDS, "albert"])
def test_a_saved_config_is_read_as_it_was(kind, tmp_path):
    config = small_config(kind)
    config.save_pretrained(tmp_path)
    read = read_config(find_model(tmp_path, ""))
    ignored = {"architectures", "transformers_version", "dtype", "id2label", "label2id"}
    assert {k: v for k, v in read.to_dict().items() if k not in ignored} == \
        {k: v for k, v in config.to_dict().items() if k not in ignored}


@pytest.mark.parametrize("kind", [*KINDS, "albert"])
def test_the_default_student_is_the_teacher_with_half_its_layers(kind):
    config = student_config(small_config(kind), RTE)
    student = new_model(config, seed=0)
    assert config.num_hidden_layers == 2 and config.hidden_size == 16 and config.num_labels == 2
    outputs = student(input_ids=torch.tensor([[5, 6, 7]]), output_hidden_states=True)
    assert len(outputs.hidden_states) == 3 and outputs.logits.shape == (1, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_in_another_order_and_a_new_classifier(kind, encoder):
    source = encoder(kind, task_name="MNLI")
    tokenizer = load_tokenizer(source, False)
    before, _ = load_pretrained(source)
    config = read_config(source)
    config.id2label = dict(enumerate(["entailment", "neutral", "contradiction"]))
    model = load_finetuned(source, MNLI, tokenizer, 24, config)
    assert torch.equal(output_layer(model)[1].weight, output_layer(before)[1].weight[[2, 0, 1]])
    start = build_for_finetuning(source, RTE, tokenizer, 24, seed=0)
    name, layer = output_layer(start.model)
    assert start.fresh == {f"{name}.weight", f"{name}.bias"} and layer.out_features == 2
    assert "layers 0–3" in start.describe() and f"newly initialised: {name.split('.')[0]} (" in start.describe()


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_answers_in_a_pipeline(kind, encoder, tmp_path):
    source = encoder(kind)
    tokenizer = load_tokenizer(source, False)
    save_model(tmp_path, load_finetuned(source, RTE, tokenizer, 24), tokenizer)
    answer = pipeline("text-classification", model=str(tmp_path))({"text": "A dog runs.", "text_pair": "It rains."})
    assert answer["label"] in RTE.labels
    again = load_tokenizer(find_model(tmp_path, ""), False)
    assert again("A dog runs.", "It rains.")["input_ids"] == tokenizer("A dog runs.", "It rains.")["input_ids"]


def test_positions_that_count_from_the_padding_are_fewer(encoder):
    source = encoder("roberta")
    tokenizer, config = load_tokenizer(source, False), read_config(source)
    fit(config, tokenizer, 62, source)
    with pytest.raises(InputError, match="--max_seq_length 63: .* has 62 positions"):
        fit(config, tokenizer, 63, source)


def test_a_kind_outside_the_table_is_tried_before_it_is_used(encoder):
    tokenizer = load_tokenizer(encoder("bert"), False)
    check_runs(new_model(small_config("albert", len(tokenizer)), 0), tokenizer, 24, "it")
    with pytest.raises(InputError, match="it: models of the kind funnel do not hand out logits and the hidden states"):
        check_runs(new_model(small_config("funnel", len(tokenizer)), 0), tokenizer, 24, "it")
    with pytest.raises(InputError, match="it: models of the kind convbert give other logits when a text is padded"):
        check_runs(new_model(small_config("convbert", len(tokenizer)), 0), tokenizer, 24, "it")
    with pytest.raises(InputError, match="at length 80"):  # more than it has positions
        check_runs(new_model(small_config("albert", len(tokenizer)), 0), tokenizer, 80, "it")


def test_lists_of_one_entry_a_layer_are_cut_with_the_layers():
    config = student_config(small_config("longformer", attention_window=[4, 4, 8, 8]), find_task("RTE"))
    assert config.attention_window == [4, 4] and new_model(config, 0).config.num_hidden_layers == 2
    config.attention_window = [4]
    with pytest.raises(InputError, match="these sizes do not give a valid model of the kind longformer"):
        new_model(config, 0)


@pytest.mark.parametrize("values, expected", [
    ({"model_type": "clip"}, "'clip', a kind of which"), ({"model_type": "os.system"}, "'os.system', a kind of which"),
    ({"model_type": "bart", "d_model": 8, "encoder_layers": 2}, "made of several models"),
    ({"model_type": "distilbert", "dim": 8}, "its model_type is distilbert, but it lacks its sizes"),
    ({"model_type": "distilbert", "dim": 8, "n_layers": 2, "n_heads": 3}, "must divide"),
    ({"model_type": "deberta-v2", "hidden_size": 8, "num_hidden_layers": 2, "auto_map": {"AutoConfig": "e.E"}}, "never run"),
])
def test_configs_of_other_kinds_are_refused_in_one_line(values, expected):
    with pytest.raises(InputError, match=expected):
        make_config(values, "config.json")


def test_a_sentencepiece_file_is_read_as_sentencepiece_reads_it(toy_glue, encoder):
    source = encoder("xlm-roberta")
    assert not (source.folder / "tokenizer.json").exists()
    tokenizer, theirs = load_tokenizer(source, False), SentencePieceProcessor(str(source.folder / "sentencepiece.bpe.model"))
    for text in ("A man plays the guitar.", "It   rains, and 2 dogs run!"):
        assert tokenizer.tokenize(text) == theirs.encode(text, out_type=str)


def test_a_sentencepiece_file_of_deberta(toy_glue, tmp_path):
    sentencepiece_model(tmp_path / "spm.model", toy_glue / "RTE/train.tsv")
    (tmp_path / "config.json").write_text('{"model_type": "deberta-v2"}')
    tokenizer = load_tokenizer(find_model(tmp_path, ""), False)
    assert tokenizer.tokenize("A man plays.") == SentencePieceProcessor(str(tmp_path / "spm.model")).encode(
        "A man plays.", out_type=str)


@pytest.mark.parametrize("content", [b"", b"\x80\x04}q\x00.", b"\x0a\x05hello" * 9])
def test_a_damaged_sentencepiece_file_is_one_line(content, tmp_path):
    (tmp_path / "sentencepiece.bpe.model").write_bytes(content)
    (tmp_path / "config.json").write_text('{"model_type": "xlm-roberta"}')
    with pytest.raises(InputError, match="cannot load a tokenizer|lacks"):
        load_tokenizer(find_model(tmp_path, "--tokenizer_name"), False)


def test_a_vocabulary_elsewhere_is_not_read(encoder, tmp_path):
    (tmp_path / "vocab.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "RobertaTokenizer", "vocab": str(encoder("roberta").folder / "vocab.json")}))
    with pytest.raises(InputError, match="names a file of its vocabulary"):
        load_tokenizer(find_model(tmp_path, ""), False)

"""Casing: without --do_lower_case tokenizer.json decides; with it the text is lower-cased whatever the file says."""

import json

import pytest
from tokenizers import Tokenizer, normalizers
from transformers import AutoTokenizer, BertTokenizer

from fsd.models.hub import find_model
from fsd.models.tokenizer import load_tokenizer

TEXTS = ["The man PLAYS a guitar.", "Café au LAIT, naïve", "THE the The", "日本 and ÉCOLE"]
WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] the The THE man plays PLAYS a guitar . , cafe café Café au lait LAIT and 日 本 " \
        "école ecole ÉCOLE ECOLE naive naïve"
NORMALIZERS = {
    "uncased": normalizers.BertNormalizer(lowercase=True),
    "uncased with accents": normalizers.BertNormalizer(lowercase=True, strip_accents=False),
    "cased": normalizers.BertNormalizer(lowercase=False),
    "cased without cleaning": normalizers.BertNormalizer(lowercase=False, clean_text=False),
    "another, uncased": normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]),
    "another, cased": normalizers.NFC(),
    "none": None,
}
KINDS = ["BertTokenizer", "PreTrainedTokenizerFast", "no tokenizer_config.json"]


def save(folder, kind, normalizer):
    """Write a tokenizer's folder: tokenizer.json with this normalizer, and a tokenizer_config.json of this kind."""
    backend = BertTokenizer({word: at for at, word in enumerate(WORDS.split())}, do_lower_case=False)
    backend.save_pretrained(folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    content["normalizer"] = normalizer and json.loads(normalizer.__getstate__())
    (folder / "tokenizer.json").write_text(json.dumps(content))
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text()) | {"tokenizer_class": kind}
    if normalizer and "lowercase" in content["normalizer"]:
        config["do_lower_case"] = content["normalizer"]["lowercase"]
    path.write_text(json.dumps(config))
    if kind.startswith("no "):
        path.unlink()
    return find_model(folder, "--tokenizer_name")


def ids(tokenizer, texts):
    return [tokenizer(text)["input_ids"] for text in texts]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalizer", NORMALIZERS.values(), ids=NORMALIZERS.keys())
def test_without_the_flag_the_file_decides(kind, normalizer, tmp_path, caplog):
    source = save(tmp_path, kind, normalizer)
    own = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(source, False)
    assert ids(tokenizer, TEXTS) == [own.encode(text).ids for text in TEXTS]
    assert "cased" not in caplog.text
    tokenizer.save_pretrained(tmp_path / "saved")  # so that a student's folder has the casing that it was trained with
    assert ids(AutoTokenizer.from_pretrained(tmp_path / "saved"), TEXTS) == ids(tokenizer, TEXTS)
    assert ids(load_tokenizer(find_model(tmp_path / "saved", ""), False), TEXTS) == ids(tokenizer, TEXTS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalizer", NORMALIZERS.values(), ids=NORMALIZERS.keys())
def test_with_the_flag_the_text_is_lower_cased(kind, normalizer, tmp_path, caplog):
    source = save(tmp_path, kind, normalizer)
    own = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    cased = own.encode("THE").ids != own.encode("the").ids
    if cased and isinstance(normalizer, normalizers.BertNormalizer):  # BERT's own strips accents where it lower-cases
        options = json.loads(normalizer.__getstate__()) | {"lowercase": True}
        options.pop("type")
        own.normalizer = normalizers.BertNormalizer(**options)
    tokenizer = load_tokenizer(source, True)
    assert ids(tokenizer, TEXTS) == [own.encode(text.lower()).ids for text in TEXTS]
    assert caplog.text.count("saved as cased") == cased
    tokenizer.save_pretrained(tmp_path / "saved")
    assert ids(AutoTokenizer.from_pretrained(tmp_path / "saved"), TEXTS) == ids(tokenizer, TEXTS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokens_that_bert_needs_stay(kind, tmp_path):
    for name, normalizer in NORMALIZERS.items():
        (tmp_path / name).mkdir()
        tokenizer = load_tokenizer(save(tmp_path / name, kind, normalizer), True)
        tokens = tokenizer.pad_token, tokenizer.unk_token, tokenizer.cls_token, tokenizer.sep_token, tokenizer.mask_token
        assert tokens == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
        tokenizer.save_pretrained(tmp_path / name / "saved")
        for same in (tokenizer, AutoTokenizer.from_pretrained(tmp_path / name / "saved")):  # as a pipeline loads it
            assert same("the", "the")["token_type_ids"] == [0, 0, 0, 1, 1] and same.pad_token == "[PAD]"

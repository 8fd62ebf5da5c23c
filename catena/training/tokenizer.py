"""Tokenizers learned from the training texts, with Hugging Face's `tokenizers`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from catena.errors import DataError, SettingsError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from catena.settings import TokenizationSettings

PAD, UNKNOWN, FIRST, LAST, MASK = SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
#: WordPiece takes longer runs without a space for unknown; in Thai a sentence is one such run.
_LONGEST_WORD = 1000


def learn_tokenizer(
    texts: Iterable[str], settings: TokenizationSettings, begins: bool = True
) -> PreTrainedTokenizerFast:
    """The tokenizer that `settings` describe, its vocabulary learned from `texts`.

    The same texts and settings give the same file, byte for byte, whatever the order of the texts. All
    kinds begin a text with `[CLS]` (unless `begins` is false, for networks that write) and end it with
    `[SEP]`, and none needs spaces between words. Raises `DataError` where the texts hold nothing to learn
    from, `SettingsError` for a vocabulary that is too small for them.
    """
    texts = list(texts)
    if not any(text.strip() for text in texts):
        raise DataError("There are no texts to learn a tokenizer from; run the prepare stage again.")
    tokenizer = _KINDS[settings.tokenizer](texts, settings)
    if tokenizer.get_vocab_size() > settings.vocabulary_size:
        raise SettingsError(
            f"`tokenization.vocabulary_size` {settings.vocabulary_size} is too small to hold every character "
            f"of the training texts, as {settings.tokenizer} must; raise it, or choose characters or bpe."
        )
    first = f"{FIRST} " if begins else ""
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first}$A {LAST}",
        pair=f"{first}$A {LAST} $B:1 {LAST}:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (FIRST, LAST)],
    )
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        cls_token=FIRST,
        sep_token=LAST,
        mask_token=MASK,
        **({} if begins else {"eos_token": LAST}),
        model_max_length=settings.max_length,
        truncation_side=settings.truncation_side,
        clean_up_tokenization_spaces=False,
    )


def _characters(texts: Sequence[str], settings: TokenizationSettings) -> Tokenizer:
    """Every character a token, spaces included."""
    tokenizer = Tokenizer(models.WordLevel({UNKNOWN: 0}, unk_token=UNKNOWN))
    if settings.lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    trainer = trainers.WordLevelTrainer(
        vocab_size=settings.vocabulary_size,
        min_frequency=settings.min_frequency,
        special_tokens=SPECIAL,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _wordpiece(texts: Sequence[str], settings: TokenizationSettings) -> Tokenizer:
    """As BERT's (Devlin et al. 2019): words and pieces of words, each Chinese character a word."""
    normalizer = normalizers.BertNormalizer(lowercase=settings.lowercase, strip_accents=False)
    learning = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    learning.normalizer = normalizer
    learning.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words = {
        word
        for text in texts
        for word, _ in learning.pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(text))
    }
    # The trainer numbers what may follow within a word in the order in which its hash table, seeded
    # afresh in every process, comes upon it, and settles ties by these numbers. Named beforehand they
    # are the same each time; only the five are special in the tokenizer that is kept.
    following = sorted({f"##{character}" for word in words for character in word[1:]})
    trainer = trainers.WordPieceTrainer(
        vocab_size=settings.vocabulary_size,
        min_frequency=settings.min_frequency,
        special_tokens=[*SPECIAL, *following],
        show_progress=False,
    )
    learning.train_from_iterator(texts, trainer)
    model = models.WordPiece(learning.get_vocab(), unk_token=UNKNOWN, max_input_chars_per_word=_LONGEST_WORD)
    tokenizer = Tokenizer(model)
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _bpe(texts: Sequence[str], settings: TokenizationSettings) -> Tokenizer:
    """Merged bytes (Sennrich et al. 2016, Radford et al. 2019): no text has anything unknown."""
    tokenizer = Tokenizer(models.BPE())
    if settings.lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary_size,
        min_frequency=settings.min_frequency,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=SPECIAL,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


#: SentencePiece's unigram model is not among them: its trainer in `tokenizers` adds up floating-point
#: numbers in another order in every process, so that no two vocabularies are the same.
_KINDS: dict[str, Callable[[Sequence[str], TokenizationSettings], Tokenizer]] = {
    "characters": _characters,
    "wordpiece": _wordpiece,
    "bpe": _bpe,
}

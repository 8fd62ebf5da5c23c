"""Pictures in folders: `catena init`, the chain, the report, predictions of files, folders and base64."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from tests.drawn_images import SHAPES, draw, write_folder
from tests.tiny_project import run

pytestmark = pytest.mark.end_to_end


def test_folders_of_pictures_become_a_model_that_names_shapes(tiny_project: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "shapes" / "train", 60, seed=1)
    write_folder(tmp_path / "shapes" / "test", 25, seed=2)
    (tmp_path / "shapes/train/disc/bad.png").write_bytes(b"no picture")
    (tiny_project / "params.yaml").unlink()
    catena = ("python", "-m", "catena.cli")
    made = run(tiny_project, *catena, "init", "--data", tmp_path / "shapes")
    assert "3: disc 61, cross 60, frame 60" in made.stdout

    params = tiny_project / "params.yaml"
    yaml = YAML()
    values = yaml.load(params)
    assert values["data"]["name"] == "shapes"
    assert values["data"]["test"] == "test"
    assert values["problem"]["images"] == {"size": 28, "colours": "rgb"}
    values["backbone"] |= {"hidden_sizes": [16, 24, 32], "depths": [1, 1, 1], "embedding_size": 16}
    values["training"] |= {"epochs": 8, "batch_size": 16, "device": "cpu", "precision": "float32"}
    values["evaluation"]["bootstrap_samples"] = 100
    yaml.dump(values, params)
    run(tiny_project, *catena, "fetch")
    run(tiny_project, "dvc", "add", "-q", "data/raw/shapes")
    run(tiny_project, "dvc", "repro", timeout=500)

    rejected = pd.read_parquet(tiny_project / "data/prepared/rejected.parquet")
    assert rejected[["text", "reason"]].values.tolist() == [["disc/bad.png", "not an image"]]
    metrics = json.loads((tiny_project / "reports/evaluation/metrics.json").read_text())
    assert metrics["accuracy"] > 0.85
    assert metrics["accuracy"] > metrics["baselines"]["majority"]["accuracy"]
    assert set(metrics["baselines"]) == {"majority", "logistic", "nearest"}
    page = (tiny_project / "reports/evaluation/report.html").read_text()
    assert page.count('src="data:image/png;base64,') >= 30
    assert "What the images look like" in page
    registry = json.loads((tiny_project / "reports/registry.json").read_text())
    assert str(registry["version"]) == "1"

    predictions = pd.read_parquet(tiny_project / "reports/evaluation/predictions.parquet")
    known = predictions.set_index("file")["prediction"]
    files = [tmp_path / "shapes/test" / name for name in ("disc/001.png", "cross/002.png", "frame/003.jpg")]
    model = ("--model", tiny_project / "models/candidate")
    said = run(tiny_project, *catena, "predict", "--json", *model, *files)
    found = [json.loads(line) for line in said.stdout.splitlines()]
    assert [one["image"] for one in found] == [str(file) for file in files]
    assert [one["prediction"] for one in found] == [
        known[file.relative_to(tmp_path / "shapes/test").as_posix()] for file in files
    ]
    for name in ("new/a", "new/b"):
        (tmp_path / name).mkdir(parents=True)
    for number in range(4):
        draw(SHAPES[number % 3], np.random.default_rng(number)).save(tmp_path / f"new/a/{number}.png")
    (tmp_path / "new/b/cut.png").write_bytes((tmp_path / "new/a/0.png").read_bytes()[:600])
    output = tmp_path / "out.csv"
    said = run(tiny_project, *catena, "predict", *model, "--input", tmp_path / "new", "--output", output)
    assert "1 records skipped; row 5: image cut off or damaged" in said.stdout
    table = pd.read_csv(output)
    assert table["image"].tolist() == [f"a/{number}.png" for number in range(4)]
    missing = run(tiny_project, *catena, "predict", *model, tmp_path / "gone.png", check=False)
    assert missing.returncode == 2
    assert missing.stderr.strip() == f"catena: There is no image file {tmp_path / 'gone.png'}."

    content = base64.b64encode(files[0].read_bytes()).decode()
    code = (
        "import mlflow, pandas as pd, sys; mlflow.set_tracking_uri('sqlite:///mlflow.db'); "
        "model = mlflow.pyfunc.load_model('models:/shapes/1'); "
        "print(model.predict(pd.DataFrame({'image': [sys.argv[1]]}))['prediction'][0])"
    )
    served = run(tiny_project, "python", "-c", code, content)
    assert served.stdout.split()[-1] == known["disc/001.png"]

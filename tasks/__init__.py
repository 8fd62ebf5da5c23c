"""The stages of `dvc.yaml`, one module each: read files, call the library, write files."""

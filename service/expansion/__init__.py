"""The online stage: seeds + pool + network -> ranked audience; the only caller of model.adapt and model.scoring."""

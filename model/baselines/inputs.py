"""What the neural baselines read: users and campaigns as batches of embedding rows, and tables to embed them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model.baselines.base import Ordinals, TrainingData
from model.choice import TASKS
from model.embedding import FeatureBatch, FieldEmbedding, Fields
from model.errors import AdaptationError, ModelError
from model.fitting import Known, known_campaigns, known_users
from model.pool import Pool
from model.vocabulary import Translation, Vocabulary


@dataclass(frozen=True)
class NeuralConfig:
    """Sizes and schedules that the neural baselines share; what differs between them is their architecture.

    The sizes are those of the preset `metaheac`, so that no row of the table wins by being larger; `tower` is what a
    campaign has of its own. deviation: of the first embeddings; power: a field is the sum of its values' embeddings /
    number of values ^ power. Fine-tuning tries each of `rates` with each of `epochs` (ascending);
    each choice looks at up to `validation_tasks`.
    """

    embedding: int = 64
    hidden: tuple[int, ...] = (64, 64)
    tower: tuple[int, ...] = (32,)
    experts: int = 8
    min_count: int = 5
    numeric_bins: int = 32
    deviation: float = 0.05
    power: float = 0.5
    campaign_features: bool = True
    campaigns_per_step: int = 5
    rows_per_campaign: int = 512
    learning_rate: float = 3e-3
    max_steps: int = 3000

    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2)
    epochs: tuple[int, ...] = (1, 2, 4, 8, 16)
    batch_rows: int = 256
    validation_tasks: int = TASKS


STANDARD = NeuralConfig()
USERS_ONLY = NeuralConfig(campaign_features=False)


@dataclass(frozen=True, eq=False)
class Reader:
    """A pool as a vocabulary of users reads it, and the vocabulary of campaigns."""

    pool: Pool
    translation: Translation
    campaign_vocabulary: Vocabulary
    device: torch.device

    def batch(self, ordinals: Ordinals) -> FeatureBatch:
        """These users."""
        return self.translation.batch(self.pool.take(ordinals), self.device)

    def campaign(self, attributes: Mapping[str, Any]) -> FeatureBatch:
        """One campaign, of size 1; without features where the vocabulary has none.

        Raises AdaptationError for attributes that its features do not allow.
        """
        if not self.campaign_vocabulary.fields:
            attributes = {}
        try:
            return self.campaign_vocabulary.attributes(attributes, self.device)
        except ModelError as error:
            raise AdaptationError(str(error)) from error


@dataclass(frozen=True, eq=False)
class Inputs(Reader):
    """What a network is built from: which users and training campaigns there are."""

    users: Known
    campaigns: Known

    @classmethod
    def of(cls, data: TrainingData, config: NeuralConfig) -> "Inputs":
        """Fit the vocabularies."""
        users = known_users(data.pool, min_count=config.min_count, numeric_bins=config.numeric_bins)
        campaigns = Known(Vocabulary(()), torch.zeros(0, dtype=torch.int64), 0)
        if config.campaign_features:
            campaigns = known_campaigns(data.dataset, data.split.train, numeric_bins=config.numeric_bins)
        translation = users.vocabulary.translate(data.pool)
        return cls(data.pool, translation, campaigns.vocabulary, data.device, users, campaigns)


class Embedding(nn.Module):
    """Users and their campaign side by side: each field's value embeddings pooled, width numbers in all."""

    def __init__(self, users: Fields, campaigns: Fields, dimension: int, power: float) -> None:
        super().__init__()
        self.power = power
        self.users = FieldEmbedding(users.table_rows, users.fields, users.vectors, dimension)
        self.campaigns = FieldEmbedding(campaigns.table_rows, campaigns.fields, campaigns.vectors, dimension)
        self.width = (users.fields + campaigns.fields) * dimension

    def forward(self, users: FeatureBatch, campaign: FeatureBatch) -> Tensor:
        """B users and one campaign -> [B, width]."""
        attributes = self.campaigns(campaign, self.power).flatten(1).expand(users.size, -1)
        return torch.cat([self.users(users, self.power).flatten(1), attributes], dim=1)

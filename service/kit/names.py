"""The form of the names that appear in paths and bodies."""

from typing import Annotated

from pydantic import StringConstraints

from model.user_ids import LONGEST_ID

CampaignName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
VersionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
JobName = Annotated[str, StringConstraints(pattern=r"^job_[0-9a-f]{1,60}$")]
ErasureName = Annotated[str, StringConstraints(pattern=r"^erasure_[0-9a-f]{1,56}$")]
UserId = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_ID, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]

from art_ext.core.limits.bounds import Bound as Bound
from art_ext.core.limits.bounds import in_distribution_risk_bound as in_distribution_risk_bound
from art_ext.core.limits.bounds import intrinsic_robustness_bound as intrinsic_robustness_bound

__all__: list[str]

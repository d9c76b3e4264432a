"""erf (floor 6): x (1 + P(x**2)) up to 1, and 1 - exp(-Q(x)) beyond, where Q fits -log(erfc(x)) and needs little relative precision."""

from __future__ import annotations

from tilewright.codegen.llvm.math.exponential import exponential
from tilewright.codegen.llvm.term import Term

# Minimax fits (Remez exchange); errors of erf below 2**-28.1 and 2**-56.3 of itself.
_NEAR_32 = (
    0.12837916612625122,
    -0.3761262595653534,
    0.1128358542919159,
    -0.026853812858462334,
    0.005188327748328447,
    -0.0008010196033865213,
    7.85386873758398e-05,
)
_NEAR_64 = (
    0.1283791670955126,
    -0.3761263890318375,
    0.11283791670954857,
    -0.02686617064507289,
    0.005223977624780827,
    -0.0008548326978740135,
    0.00012055331036831244,
    -1.4925593505399624e-05,
    1.6460972795314164e-06,
    -1.6350025013616315e-07,
    1.4657878565440317e-08,
    -1.13656614817626e-09,
    5.945254872443436e-11,
)
_FAR_32 = (
    0.0003415383107494563,
    1.1270891427993774,
    0.6381449103355408,
    0.10310666263103485,
    -0.021838020533323288,
    0.0029476473573595285,
    -0.00018637807806953788,
)
_FAR_64 = (
    1.796321831410727e-07,
    1.1283773291306323,
    0.6366284896052247,
    0.10274724994391714,
    -0.019078150175059507,
    -0.00028049753640504646,
    0.0017690114556951561,
    -0.0006411827783101857,
    4.4829857909862034e-05,
    7.036231364360474e-05,
    -4.503536069257501e-05,
    1.651319643194358e-05,
    -4.326829320288542e-06,
    8.50527614002537e-07,
    -1.2569728221327568e-07,
    1.3625784103965922e-08,
    -1.025624712039466e-09,
    4.795647471938509e-11,
    -1.0495279766706513e-12,
)


def erf(x: Term) -> Term:
    near_fit, far_fit, enough = (_NEAR_32, _FAR_32, 3.93) if x.mantissa_bits == 23 else (_NEAR_64, _FAR_64, 5.95)  # erf(enough) rounds to 1
    magnitude = x.abs()
    magnitude = (magnitude > enough).select(enough, magnitude)
    near = (magnitude * magnitude).polynomial(near_fit).mad(magnitude, magnitude)
    far = 1.0 - exponential(-magnitude.polynomial(far_fit))
    return (magnitude < 1.0).select(near, far).with_sign_of(x)

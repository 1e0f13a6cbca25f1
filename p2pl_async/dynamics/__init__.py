"""Learning dynamics in closed form: linearized devices that mix and descend, solved without running them.

    kernels      gradient Grams (neural tangent kernels) of torch models
    linearized   squared loss of devices in two forms: coefficients of a kernel, or parameters
    recursion    DGD, CTA and ATC: step by step (as emulated), or as the gradient flow of the paper
    spectrum     stable step sizes, modes and time constants, the limit, the effect of each mixing weight
    failures     mean and covariance of mixing matrices when messages get lost
    moments      expected squared errors and spread under such losses
    influence    how much each device's samples count, and how fast devices agree

Letters: Q devices; R rows, one per training sample and output (or one per sample, if outputs share
a kernel, with m columns); W (Q, Q) the mixing matrix; eta the step size; K (R, R) the kernel.
The package knows no networks and no scenarios; only `kernels` needs torch.

Source: Chaudhari, Pranav, Anand and Moura, "Learning dynamics of decentralized deep networks",
ICASSP 2025, arXiv:2409.15267; discrete time, kernel form, failures and moments are additions.
"""

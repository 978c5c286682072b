"""The cost of rounds with a random cohort.

Which bound may be claimed:

  cohort                          adjacency                      here
  every view of the server        zero_out                       no sampling bound at all
  cap m on participations         any                            `curves.participation_cap`
  Poisson, view of the release    add_or_remove_one or zero_out  `poisson`, `fixed_rounds`
  fixed size, no replacement      replace_one                    `fixed_size`
  shuffled, check-in              any                            none

Amplification needs a secret cohort: the server of secure aggregation sees who
takes part, so it never holds in the server's view. Distributed noise grows with
the cohort, so Poisson sampling may be claimed only where the server tops the
noise up to a total that does not depend on the cohort. Proofs: docs/proofs/sampling.md.
"""

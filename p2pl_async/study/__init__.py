"""Studies: a question asked of a scenario in several variants and seeds, its runs, and its answer.

study.toml -> settings -> expanding: factors, variants, jobs -> running on an executor -> a folder of finished runs
                                                                                             |
                    tables, figures, expectations <- statistics over seeds <- values of each run

A job is a resolved scenario with its seed. Its identity is a digest of what determines its run, and names the folder
of its result, so the file system is the only state: what is there is done, and a study that was cut short goes on when
it is started again.
"""

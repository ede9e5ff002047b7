"""What was planned, sent and heard, in SQL. Knows the gateway's vocabulary; knows no Airflow.

schema      the tables
database    the engine: three databases, one behaviour; transactions, the clock, what a failure means
migrations  how the tables came about; `versions` says whether the code and the tables fit
parts       long lists in parts
owners      which process holds a claim, and whether it is provably dead
plans       a campaign's plan, stored whole or not at all: `campaigns` is what stands, `drafts` what is being stored,
            `recipients` stores items quickly
outbox      claim a batch, settle it: `claims`, `settling` and `splitting` say how, `notes` who was texted
inbox       what was pushed, stored as it came
matching    which batch and phone a push is about, counted once: `tally` decides, `phonebook` finds the phone,
            `matching_sql` reads and writes, `ownership` is for taskIds that get or lose an owner
deliveries  how many phones have got their text, read from counts
evidence    what receipts and replies say about batches in doubt
reports     what became of a campaign, in counts
views       what people look at: campaigns, how far they are, batches; `handed_in` is every item, one by one
verdicts    what people find out about batches in doubt
upkeep      how much the ledger holds, and what it keeps no longer
"""

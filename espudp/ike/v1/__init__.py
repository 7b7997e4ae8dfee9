"""IKEv1 as states: phase 1 in main and aggressive mode, and the exchanges under its protection.

Where to begin: `negotiator` takes what arrives, and `established` is an ISAKMP SA that stands.

    who calls           attempt; main_initiator, aggressive_initiator: a state for each message
    who is called       doorkeeper, admission, reception; main_responder, aggressive_responder
    phase 1, both       phase1_proposals, ways, proof, natt, vendor; phase1 is what it leaves
    an ISAKMP SA        sa (keys, IVs, message IDs), exchange (who repeats what), fragmenting, established
    from phase 1 on     conclusion: the steps; login, xauth; opening; configuration, mode_config, unity; quick
    transactions        transaction (the peer's), asking (ours)
    quick mode          quick; quick_initiator, quick_responder; esp_proposals, client_ids, life; child
    informational       informational, dpd
    a connection        connection, agenda; upkeep of its child SAs, isakmp_sas that they are made with
    phase 1 again       phase1_rekey, exchanged_roles
    all of them         hub, snapshot
"""

"""The verbs: label, train, explore, learn, deposit, heal, analyse, and quickstart over them all."""

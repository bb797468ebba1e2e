"""A model of an encode fleet, fed by measured service times: what it says is `modelled`, never measured."""

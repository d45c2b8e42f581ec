"""From a dropped file to a pair in OUT: looking, composing, claiming, handing over, recovering."""

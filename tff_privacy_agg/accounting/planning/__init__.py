"""From a target epsilon to noise, bits and cost, before anything is trained."""

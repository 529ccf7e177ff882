"""What a training run costs: foretold by `estimate`, measured by `bench`."""

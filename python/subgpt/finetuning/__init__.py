"""Fine-tuning: the loop of pretraining on other data (`data`), with answers as targets (`finetune`)."""

"""Fine-tuning: the same loop as pretraining on other data (`data`), with the answer alone as target (`finetune`)."""

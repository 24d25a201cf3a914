import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.floor import Rates, Work, work_of
from wyoming_piwhisper.engine.whisper_config import WhisperConfig
from wyoming_piwhisper.engine.whisper_model import Whisper

SIZES = WhisperConfig(
    vocab_size=100,
    d_model=32,
    encoder_layers=2,
    decoder_layers=3,
    encoder_attention_heads=2,
    decoder_attention_heads=2,
    encoder_ffn_dim=64,
    decoder_ffn_dim=96,
    num_mel_bins=80,
    max_source_positions=1500,
    max_target_positions=64,
)


def test_the_floor_counts_the_operations_of_the_reference_model() -> None:
    model = Whisper(SIZES).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
        model.cross_keys_values(model.encode(torch.zeros(1, 80, 201)))
    work = work_of(SIZES, 2.01, 1)
    assert work.int8_operations + work.fp32_operations == counter.get_total_flops()


def test_the_floor_counts_the_decoders_weights_once_a_token() -> None:
    model = Whisper(SIZES)
    read = {
        name: parameter.numel()
        for name, parameter in model.model.decoder.named_parameters()
        if parameter.ndim == 2 and "positions" not in name and "encoder_attn.k_" not in name
        if "encoder_attn.v_" not in name
    }
    assert work_of(SIZES, 2.0, 7).read_bytes == 7 * sum(read.values())


def test_the_floor_is_the_sum_of_its_parts() -> None:
    rates = Rates(int8_operations=4e9, fp32_operations=2e9, read_bytes=1e9)
    assert rates.milliseconds(Work(int8_operations=4e6, fp32_operations=4e6, read_bytes=5e6)) == 8.0

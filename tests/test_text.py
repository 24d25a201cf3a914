import pytest
from hypothesis import given
from hypothesis import strategies as st

from wyoming_piwhisper.domain.text import normalise_text, number_to_words


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Turn ON the Living-Room light!", "turn on the living room light"),
        ("Don\u2019t \u2018dim\u2019 the dogs' lamp", "don't dim the dogs lamp"),
        ("Set it to 50%.", "set it to fifty percent"),
        ("fifty per cent", "fifty percent"),
        ("21.5 °C", "twenty one point five degrees"),
        ("20°", "twenty degrees"),
        ("20 ℃ in here", "twenty degrees in here"),
        ("-5 degrees", "minus five degrees"),
        ("channels 5-10", "channels five ten"),
        ("wake me at 7:30 a.m. or 7:05", "wake me at seven thirty am or seven oh five"),
        ("at 10:00 or 6:15pm or 7pm", "at ten or six fifteen pm or seven pm"),
        ("the 1st, 2nd, 3rd, 12th and 20th", "the first second third twelfth and twentieth"),
        ("21st 100th", "twenty first one hundredth"),
        ("1,234,567", "one million two hundred thirty four thousand five hundred sixty seven"),
        ("0800 12345678901", "zero eight zero zero one two three four five six seven eight nine zero one"),
        (".5 and 3.", "point five and three"),
        ("$1 & £5", "one dollar and five pounds"),
        ("b12", "b twelve"),
        ("Café", "cafe"),
        ("I am", "i am"),
        ("five o'clock", "five o'clock"),
        ("", ""),
        ("?! ... '", ""),
    ],
)
def test_text_is_reduced_to_the_words_said(written: str, said: str) -> None:
    assert normalise_text(written) == said


@given(st.text() | st.text(alphabet="0123456789.,:%°$'- stndrhpamc"))
def test_a_second_pass_changes_nothing(text: str) -> None:
    once = normalise_text(text)
    assert normalise_text(once) == once


@given(st.integers(0, 999_999_999))
def test_a_number_and_its_words_are_the_same_text(number: int) -> None:
    assert normalise_text(str(number)) == normalise_text(f"{number:,}") == number_to_words(number)


@pytest.mark.parametrize("number", [-1, 1_000_000_000])
def test_numbers_without_a_name_here_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match=str(number)):
        number_to_words(number)

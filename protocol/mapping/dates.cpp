// Fixed positions, checked digit by digit.
#include "protocol/mapping/dates.hpp"

#include <algorithm>
#include <cstring>

namespace psource {
namespace {

/// The number of two digits, or -1.
int two_digits(const char* at) {
  const unsigned high = static_cast<unsigned char>(at[0] - '0');
  const unsigned low = static_cast<unsigned char>(at[1] - '0');
  return high < 10 && low < 10 ? static_cast<int>(high * 10 + low) : -1;
}

int days_of_month(int year, int month) {
  constexpr signed char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  return month == 2 && leap ? 29 : days[month - 1];
}

/// YYYY-MM-DD of a day that exists.
bool real_date(const char* at) {
  if (at[4] != '-' || at[7] != '-') return false;
  const int century = two_digits(at);
  const int years = two_digits(at + 2);
  const int month = two_digits(at + 5);
  const int day = two_digits(at + 8);
  if (century < 0 || years < 0 || month < 1 || month > 12 || day < 1) return false;
  const int year = century * 100 + years;
  // Most days need no leap years.
  return year != 0 && (day <= 28 || day <= days_of_month(year, month));
}

/// HH:MM:SS within a day.
bool real_clock(const char* at) {
  if (at[2] != ':' || at[5] != ':') return false;
  const int hour = two_digits(at);
  const int minute = two_digits(at + 3);
  const int second = two_digits(at + 6);
  return hour >= 0 && hour < 24 && minute >= 0 && minute < 60 && second >= 0 && second < 60;
}

/// Writes ".ffffff" from ".f" to ".ffffff" or nothing; false when the text is neither.
bool write_fraction(char* to, std::string_view text) {
  std::memcpy(to, ".000000", 7);
  if (text.empty()) return true;
  if (text.front() != '.' || text.size() < 2 || text.size() > 7) return false;
  for (std::size_t i = 1; i < text.size(); ++i) {
    if (static_cast<unsigned char>(text[i] - '0') >= 10) return false;
    to[i] = text[i];
  }
  return true;
}

void write_two(char* to, int value) {
  to[0] = static_cast<char>('0' + value / 10);
  to[1] = static_cast<char>('0' + value % 10);
}

}  // namespace

outcome append_date(text_buffer& out, std::string_view text) {
  if (text.size() != 10 || !real_date(text.data())) return outcome::impossible;
  char* to = out.reserve(12);
  to[0] = '"';
  std::memcpy(to + 1, text.data(), 10);
  to[11] = '"';
  out.finish(to + 12);
  return outcome::exact;
}

outcome append_datetime(text_buffer& out, std::string_view text, bool utc) {
  if (text.size() < 19 || (text[10] != ' ' && text[10] != 'T') || !real_date(text.data()) ||
      !real_clock(text.data() + 11))
    return outcome::impossible;
  char* to = out.reserve(32);
  to[0] = '"';
  std::memcpy(to + 1, text.data(), 19);
  to[11] = 'T';
  if (!write_fraction(to + 20, text.substr(19))) return outcome::impossible;
  to += 27;
  if (utc) *to++ = 'Z';
  *to++ = '"';
  out.finish(to);
  return outcome::exact;
}

outcome append_time(text_buffer& out, std::string_view text) {
  if (text.size() < 8 || !real_clock(text.data())) return outcome::impossible;
  char* to = out.reserve(24);
  to[0] = '"';
  std::memcpy(to + 1, text.data(), 8);
  if (!write_fraction(to + 9, text.substr(8))) return outcome::impossible;
  to[16] = '"';
  out.finish(to + 17);
  return outcome::exact;
}

void append_instant(text_buffer& out, std::int64_t micros) {
  constexpr std::int64_t earliest = -62167219200000000;  // 0000-01-01
  constexpr std::int64_t latest = 253402300799999999;    // 9999-12-31T23:59:59.999999
  constexpr std::int64_t second = 1000000;
  micros = std::clamp(micros, earliest, latest);
  std::int64_t seconds = micros / second;
  std::int64_t fraction = micros % second;
  if (fraction < 0) {
    fraction += second;
    --seconds;
  }
  std::int64_t days = seconds / 86400;
  auto clock = static_cast<int>(seconds % 86400);
  if (clock < 0) {
    clock += 86400;
    --days;
  }
  // Days to a civil date in eras of 400 years that begin on 0000-03-01, so that the leap day comes last.
  days += 719468;
  const std::int64_t era = (days >= 0 ? days : days - 146096) / 146097;
  const auto of_era = static_cast<int>(days - era * 146097);
  const int year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
  const int day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int shifted_month = (5 * day_of_year + 2) / 153;
  const int day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
  const int month = shifted_month < 10 ? shifted_month + 3 : shifted_month - 9;
  const int year = static_cast<int>(era) * 400 + year_of_era + (month <= 2 ? 1 : 0);

  char* to = out.reserve(27);
  std::memcpy(to, "0000-00-00T00:00:00.000000Z", 27);
  write_two(to, year / 100);
  write_two(to + 2, year % 100);
  write_two(to + 5, month);
  write_two(to + 8, day);
  write_two(to + 11, clock / 3600);
  write_two(to + 14, clock / 60 % 60);
  write_two(to + 17, clock % 60);
  const auto micro = static_cast<int>(fraction);
  write_two(to + 20, micro / 10000);
  write_two(to + 22, micro / 100 % 100);
  write_two(to + 24, micro % 100);
  out.finish(to + 27);
}

}  // namespace psource
